package options

import (
	"slices"
	"strings"
)

// Kind is what stands at one place of a command line, for completion.
type Kind int

const (
	Text      Kind = iota // anything
	Word                  // one of a few words
	Words                 // some of a few words, separated by commas
	File                  // the path of a file
	Folder                // the path of a folder
	Addresses             // gRPC addresses of nodes, separated by commas
	Key                   // a key of the database, or what keys begin with
)

// Takes returns what the value of an option is, and its words if there are only a few.
func (o *Option) Takes() (Kind, []string) {
	switch {
	case o.words != nil:
		return Words, o.words
	case o.value == "":
		return Word, []string{"true", "false"}
	case o.value == "FILE":
		return File, nil
	case o.value == "FOLDER":
		return Folder, nil
	case strings.HasPrefix(o.value, "HOST:PORT"):
		return Addresses, nil
	case strings.Contains(o.value, "|"):
		return Word, strings.Split(o.value, "|")
	}
	return Text, nil
}

// IsBoolean reports whether an option needs no value.
func (o *Option) IsBoolean() bool { return o.value == "" }

// Summary describes an option in a few words.
func (o *Option) Summary() string { return o.summary }

// Of reports whether an option has a meaning for a command; for nil, whether it has one for
// every command.
func (o *Option) Of(c *Command) bool {
	if c == nil {
		return o.commands == nil
	}
	return o.appliesTo(c)
}

// Summary describes a command in a few words.
func (c *Command) Summary() string { return c.summary }

// Argument returns what the argument of a command is that comes after n others, and its
// words if there are only a few.
func (c *Command) Argument(n int) (Kind, []string) {
	if n == 0 && c.words != nil {
		return Word, c.words
	}
	places := slices.DeleteFunc(strings.Fields(c.usage), func(f string) bool { return strings.Trim(f, ".]") == "" })
	if c.max >= 0 && n >= c.max || len(places) == 0 {
		return Text, nil
	}
	place := places[min(n, len(places)-1)]
	if n >= len(places) && c.repeatsKeys() {
		place = places[n%len(places)]
	}
	switch {
	case strings.Contains(place, "KEY") && !strings.Contains(place, "="), strings.Contains(place, "PREFIX"), strings.Contains(place, "START"):
		return Key, nil
	case strings.Contains(place, "FILE"):
		return File, nil
	case strings.Contains(place, "HOST:PORT"):
		return Addresses, nil
	}
	return Text, nil
}

// repeatsKeys reports whether the arguments are those of -mset or -mget, once or more.
func (c *Command) repeatsKeys() bool { return c.max < 0 && strings.HasPrefix(c.usage, "KEY") }

// FindCommand returns the command that a word names, with or without dashes; nil if it
// names none.
func FindCommand(word string) *Command {
	name, _, hasValue, _ := splitWord(word)
	if hasValue {
		return nil
	}
	return (&parser{commands: Commands()}).findCommand(name)
}

// FindOption returns the option that a dashed word names, nil if it names none, and the
// value that stands in the same word.
func FindOption(word string) (o *Option, value string, hasValue bool) {
	name, value, hasValue, dashed := splitWord(word)
	if !dashed {
		return nil, "", false
	}
	return (&parser{options: Table()}).findOption(name), value, hasValue
}
