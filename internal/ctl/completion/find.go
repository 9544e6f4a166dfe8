// Package completion finds what a word of dkvctl's command line may become, in the table of
// its commands and options. The scripts of -completion ask it through dkvctl itself, so
// that they fit the installed release; -shell asks it directly.
package completion

import (
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/options"
)

// Kind says who completes a word.
type Kind string

const (
	Words   Kind = "words"   // the candidates are all that there is
	Files   Kind = "files"   // the shell, with names of files
	Folders Kind = "folders" // the shell, with names of folders
	Keys    Kind = "keys"    // keys of the database
)

func (k Kind) String() string { return string(k) }

// Candidate is what a word may become.
type Candidate struct{ Word, Summary string }

// Found are the candidates for the last word of a command line.
type Found struct {
	Kind       Kind
	Candidates []Candidate
}

// Find completes the last of the words after the program's name, which may be empty. env is
// os.LookupEnv, or a test's.
func Find(words []string, env func(string) (string, bool)) Found {
	if len(words) == 0 {
		words = []string{""}
	}
	line := read(words[:len(words)-1])
	word := words[len(words)-1]
	switch {
	case line.wants != nil:
		return value(line.wants, "", word, env)
	case line.literal:
		return line.argument(word, env)
	}
	if o, typed, hasValue := options.FindOption(word); o != nil && hasValue {
		return value(o, strings.TrimSuffix(word, typed), typed, env)
	}
	if strings.HasPrefix(word, "-") {
		return line.names(word)
	}
	if line.command == nil {
		return line.bareNames(word)
	}
	return line.argument(word, env)
}

// line is what the words before the one to complete mean.
type line struct {
	command *options.Command
	args    int             // how many arguments it has so far
	wants   *options.Option // the option whose value comes next
	literal bool            // after --, where no word is an option
}

func read(words []string) line {
	var l line
	for _, word := range words {
		o, _, hasValue := options.FindOption(word)
		dashed := strings.HasPrefix(word, "-")
		switch c := options.FindCommand(word); {
		case l.wants != nil:
			l.wants = nil
		case l.literal:
			l.args++
		case word == "--":
			l.literal = true
		case o != nil && !hasValue && !o.IsBoolean():
			l.wants = o
		case o != nil:
		case c != nil && l.command == nil:
			l.command = c
		case !dashed || l.command != nil:
			l.args++
		}
	}
	return l
}

// names returns the commands and options that a dashed word may become. A command line has
// one command, so that after it only its options follow, and -help.
func (l line) names(word string) Found {
	dashes := "-"
	if strings.HasPrefix(word, "--") {
		dashes = "--"
	}
	var all []Candidate
	for _, c := range options.Commands() {
		if !c.Hidden && (l.command == nil || c.Name == "help") {
			all = append(all, Candidate{dashes + c.Name, c.Summary()})
		}
	}
	for _, o := range options.Table() {
		if o.Of(l.command) {
			all = append(all, Candidate{dashes + o.Name, o.Summary()})
		}
	}
	return matching(all, word)
}

// bareNames returns the commands that a word without dashes may become.
func (l line) bareNames(word string) Found {
	var all []Candidate
	for _, c := range options.Commands() {
		if !c.Hidden {
			all = append(all, Candidate{c.Name, c.Summary()})
		}
	}
	return matching(all, word)
}

func (l line) argument(word string, env func(string) (string, bool)) Found {
	if l.command == nil {
		return Found{Kind: Words}
	}
	if l.command.Name == "help" && l.args == 0 {
		return l.bareNames(word)
	}
	kind, words := l.command.Argument(l.args)
	return place(kind, words, "", word, env)
}

// value completes the value of an option; before is what stands before it in the same word.
func value(o *options.Option, before, typed string, env func(string) (string, bool)) Found {
	kind, words := o.Takes()
	return place(kind, words, before, typed, env)
}

func place(kind options.Kind, words []string, before, typed string, env func(string) (string, bool)) Found {
	switch kind {
	case options.File:
		return Found{Kind: Files}
	case options.Folder:
		return Found{Kind: Folders}
	case options.Key:
		return Found{Kind: Keys}
	case options.Addresses:
		words = known(env)
	}
	if kind == options.Words || kind == options.Addresses {
		cut := strings.LastIndex(typed, ",") + 1
		done := strings.Split(typed[:cut], ",")
		words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return slices.Contains(done, w) })
		before, typed = before+typed[:cut], typed[cut:]
	}
	all := make([]Candidate, len(words))
	for i, w := range words {
		all[i] = Candidate{Word: before + w}
	}
	return matching(all, before+typed)
}

// known are the addresses that the environment names, or the default one.
func known(env func(string) (string, bool)) []string {
	list, _ := env("DKVCTL_ADDR")
	if list == "" {
		return []string{options.DefaultAddr}
	}
	addrs := strings.Split(list, ",")
	for i := range addrs {
		addrs[i] = strings.TrimSpace(addrs[i])
	}
	return slices.DeleteFunc(addrs, func(a string) bool { return a == "" })
}

// matching returns the candidates that begin with a word. Case matters only if some do so
// as it is typed.
func matching(all []Candidate, word string) Found {
	found := Found{Kind: Words}
	for _, exact := range []bool{true, false} {
		for _, c := range all {
			if strings.HasPrefix(c.Word, word) || !exact && strings.HasPrefix(strings.ToLower(c.Word), strings.ToLower(word)) {
				found.Candidates = append(found.Candidates, c)
			}
		}
		if found.Candidates != nil {
			break
		}
	}
	return found
}
