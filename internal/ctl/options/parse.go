package options

import (
	"strings"

	"github.com/dkvdb/dkv/internal/suggest"
)

// Invocation is a parsed command line.
type Invocation struct {
	Command *Command
	Args    []string
	Options *Options
	// Words are those that the options were typed as.
	Words []string
}

// parser reads a command line word by word. The rules, which -help repeats:
//
//   - -name, --name and, for a command that comes before any argument, a bare
//     name mean the same. Case and inner dashes of a name do not matter.
//   - Options may stand anywhere: -name VALUE or -name=VALUE; a boolean one needs
//     no value. What follows -- is never an option.
//   - A word that begins with a dash and is not a known name is an argument if it
//     is a number, or if the command still lacks an argument and the word does
//     not look like a misspelt option. Otherwise it is an error.
type parser struct {
	commands []*Command
	options  []*Option
	inv      Invocation
	foreign  []string // unknown dashed words that were taken as arguments
}

// Parse reads the arguments after the program's name. Its errors are *UsageError.
func Parse(args []string) (*Invocation, error) {
	p := &parser{commands: Commands(), options: Table()}
	p.inv.Options = DefaultOptions()
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if word == "--" {
			if err := p.literals(args); err != nil {
				return nil, err
			}
			break
		}
		rest, err := p.word(word, args)
		if err != nil {
			return nil, err
		}
		args = rest
	}
	return &p.inv, p.check()
}

// literals takes the words after --.
func (p *parser) literals(words []string) error {
	if p.inv.Command == nil && len(words) > 0 {
		return Usagef("no command before --: dkvctl -help lists the commands")
	}
	p.inv.Args = append(p.inv.Args, words...)
	return nil
}

// word takes one word and returns the rest of the words after it.
func (p *parser) word(word string, after []string) ([]string, error) {
	name, value, hasValue, dashed := splitWord(word)
	if !dashed {
		if p.inv.Command != nil {
			p.inv.Args = append(p.inv.Args, word)
			return after, nil
		}
		c := p.findCommand(word)
		if c == nil {
			return nil, p.unknown("command", word)
		}
		p.inv.Command = c
		return after, nil
	}
	if o := p.findOption(name); o != nil {
		return p.option(o, word, value, hasValue, after)
	}
	if c := p.findCommand(name); c != nil && !hasValue {
		return after, p.setCommand(c, word)
	}
	if hasValue && fold(name) == "token" {
		return nil, ErrSecretTyped
	}
	return after, p.foreignWord(word, name)
}

// option takes an option and, if it needs one, its value.
func (p *parser) option(o *Option, word, value string, hasValue bool, after []string) ([]string, error) {
	if !hasValue && o.value != "" {
		if len(after) == 0 || p.isKnown(after[0]) {
			return nil, Usagef("%s needs a value: -%s %s", word, o.Name, o.value)
		}
		value, after = after[0], after[1:]
	}
	if !hasValue && o.value == "" {
		value = "true"
	}
	if err := o.set(p.inv.Options, value); err != nil {
		return nil, Usagef("-%s %s: %v", o.Name, value, err)
	}
	p.inv.Words = append(p.inv.Words, "-"+o.Name+"="+value)
	p.inv.Options.Given[o.Name] = true
	return after, nil
}

// ErrSecretTyped is the error of a token on the command line, which earlier releases
// accepted. It does not repeat what was typed.
var ErrSecretTyped = Usagef("-token is a command, which makes tokens; a token on a command line is seen by other users of this machine: " +
	"write it to a file of mode 600 and name that with -tokenFile or DKVCTL_TOKEN_FILE, or set DKVCTL_TOKEN")

func (p *parser) setCommand(c *Command, word string) error {
	switch current := p.inv.Command; {
	case current == nil:
		p.inv.Command = c
	case c.Name == "help": // dkvctl -set -help
		p.inv.Args = []string{current.Name}
		p.inv.Command = c
	case current.Name == "help": // dkvctl -help -set
		p.inv.Args = append(p.inv.Args, c.Name)
	case c.Name == "token" || current.Name == "token":
		return ErrSecretTyped
	default:
		return Usagef("two commands, -%s and %s: write -- before arguments that begin with a dash", current.Name, word)
	}
	return nil
}

// foreignWord takes a dashed word that is not a known name, as an argument or an error.
func (p *parser) foreignWord(word, name string) error {
	c := p.inv.Command
	if c == nil {
		return p.unknown("flag", word)
	}
	if !isNumber(word) {
		if len(p.inv.Args) >= p.least() || p.nearestOption(name, c) != "" {
			return p.unknown("flag", word)
		}
		p.foreign = append(p.foreign, word)
	}
	p.inv.Args = append(p.inv.Args, word)
	return nil
}

// check finds the errors that only the whole line shows.
func (p *parser) check() error {
	c := p.inv.Command
	if c == nil {
		return Usagef("no command: dkvctl -help lists the commands")
	}
	for _, o := range p.options {
		if p.inv.Options.Given[o.Name] && !o.appliesTo(c) {
			return Usagef("-%s has no meaning for -%s: %s", o.Name, c.Name, c.synopsis())
		}
	}
	n := len(p.inv.Args)
	most := c.max
	if p.inv.Options.FromStdin {
		most = p.least()
	}
	if n >= p.least() && (c.max < 0 || n <= most) {
		return nil
	}
	if len(p.foreign) > 0 {
		return p.unknown("flag", p.foreign[0])
	}
	if p.inv.Options.FromStdin {
		return Usagef("-%s with -stdin takes KEY alone, not %s", c.Name, arguments(n))
	}
	return Usagef("-%s takes %s, not %d: %s", c.Name, c.counts(), n, c.synopsis())
}

// least is how many arguments the command needs: one fewer if the value comes from
// standard input.
func (p *parser) least() int {
	if p.inv.Options.FromStdin {
		return p.inv.Command.min - 1
	}
	return p.inv.Command.min
}

func (p *parser) findCommand(name string) *Command {
	for _, c := range p.commands {
		if matches(name, c.Name, c.aliases) {
			return c
		}
	}
	return nil
}

func (p *parser) findOption(name string) *Option {
	for _, o := range p.options {
		if matches(name, o.Name, o.aliases) {
			return o
		}
	}
	return nil
}

// isKnown reports whether a word is a dashed name, so that it cannot be meant as the
// value of the option before it.
func (p *parser) isKnown(word string) bool {
	name, _, _, dashed := splitWord(word)
	return word == "--" || dashed && (p.findOption(name) != nil || p.findCommand(name) != nil)
}

// nearestOption returns the option of command c that name may be a
// misspelling of.
func (p *parser) nearestOption(name string, c *Command) string {
	if len(name) < minGuessed {
		return ""
	}
	var own, global []string // the command's own come first: of two equally near the first is taken
	for _, o := range p.options {
		switch {
		case o.commands == nil:
			global = append(global, o.names(minGuessed)...)
		case o.appliesTo(c):
			own = append(own, o.names(minGuessed)...)
		}
	}
	return suggest.Nearest(name, append(own, global...))
}

// minGuessed is the length below which a name is too short for a guess: almost every
// name is near to it.
const minGuessed = 3

// unknown returns the error for a word that is not a known name.
func (p *parser) unknown(what, word string) error {
	name, _, _, _ := splitWord(word)
	var known []string
	for _, c := range p.commands {
		known = append(known, c.Name)
		known = append(known, c.aliases...)
	}
	for _, o := range p.options {
		known = append(known, o.names(0)...)
	}
	hint := "dkvctl -help lists all commands and options"
	near := suggest.Nearest(name, known)
	if c := p.inv.Command; c != nil {
		if own := p.nearestOption(name, c); own != "" {
			near = own
		}
		hint = "write -- before arguments that begin with a dash"
	}
	if near != "" {
		return Usagef("unknown %s %s, did you mean -%s? (%s)", what, word, near, hint)
	}
	return Usagef("unknown %s %s: %s", what, word, hint)
}

// splitWord takes a word apart: -name, --name, -name=value. A lone dash is an
// argument like any other.
func splitWord(word string) (name, value string, hasValue, dashed bool) {
	name = strings.TrimPrefix(word, "-")
	if name == word || name == "" {
		return word, "", false, false
	}
	name, value, hasValue = strings.Cut(strings.TrimPrefix(name, "-"), "=")
	return name, value, hasValue, true
}

func matches(name, full string, aliases []string) bool {
	if fold(name) == fold(full) {
		return true
	}
	for _, a := range aliases {
		// Shorthands keep their case: -h and -H need not be the same.
		if name == a || len(a) > 1 && fold(name) == fold(a) {
			return true
		}
	}
	return false
}

// fold returns the same text for stopOnError, stop-on-error and stoponerror.
func fold(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "-", "")
}

// isNumber reports whether a dashed word is a negative number.
func isNumber(word string) bool {
	digits := strings.TrimPrefix(word, "-")
	return digits != "" && strings.Trim(digits, "0123456789.eE+-") == "" && digits[0] != '-' && strings.ContainsAny(digits, "0123456789")
}
