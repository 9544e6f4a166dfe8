package config

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/dkvdb/dkv/internal/suggest"
)

// commandLine is a parsed command line.
type commandLine struct {
	action   Action
	confirm  string
	restore  Restore
	file     named
	settings []setting
}

// actionFlags ask the program to print something and exit instead of serving.
var actionFlags = [...]struct {
	name, doc string
	action    Action
}{
	{"help", "print this and exit", ShowHelp},
	{"h", "", ShowHelp}, // not in the help, but commonly typed
	{"version", "print the version and exit", ShowVersion},
	{"print-config", "print the values in effect and where each comes from, and exit", PrintConfig},
	{"check-config", "check the configuration and exit", CheckConfig},
}

// The command of dkvsrv that does not serve, and the option that only it has.
const (
	recoverCommand = "recover"
	recoverDoc     = "as the first argument: list what this node, which is stopped, has left of a cluster whose majority is lost, and how to make it the master"
	confirmFlag    = "confirm"
	confirmDoc     = "with recover: do what was listed under this token"
)

// restoreFlag is the option by which dkvsrv restores and does not serve.
const restoreFlag = "restore-from"

// restoreFlags are the options of a restore, with what they take and do.
var restoreFlags = [...]struct {
	name, takes, doc string
	set              func(r *Restore, text string) error
}{
	{restoreFlag, "PATH", "put a backup into the empty db-folder of this node, as the start of a new cluster, and exit: start the node then", func(r *Restore, text string) error {
		r.From = text
		return nil
	}},
}

// parseArgs reads a command line by the rules of package flag: -name and --name
// mean the same, a value follows "=" or a space, and a boolean without a value is
// true. Values are kept as text, so that those of flags, environment and file are
// parsed, and their errors worded, in one place.
func parseArgs(t *table, args []string) (*commandLine, error) {
	line := &commandLine{}
	if len(args) > 0 && args[0] == recoverCommand {
		line.action, args = Recover, args[1:]
	}
	fs := flag.NewFlagSet("dkvsrv", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	for k := range t.all {
		fs.Var(&textFlag{bare: k.isBool(), set: func(text string) {
			line.settings = append(line.settings, setting{k, text, Origin{Source: FromFlag, Name: "--" + k.name}})
		}}, k.name, "")
	}
	for _, name := range []string{"config", "c"} {
		fs.Var(&textFlag{set: func(text string) {
			line.file = named{path: text, given: true, origin: Origin{Source: FromFlag, Name: "--config"}}
		}}, name, "")
	}
	var badRestore error
	for _, f := range restoreFlags {
		fs.Var(&textFlag{set: func(text string) {
			if text == "" {
				badRestore = &UsageError{Text: "option --" + f.name + " needs a value: write --" + f.name + " " + f.takes}
			} else if err := f.set(&line.restore, text); err != nil {
				badRestore = &ValueError{Key: f.name, Origin: Origin{Source: FromFlag, Name: "--" + f.name}, Err: err}
			}
		}}, f.name, "")
	}
	if line.action == Recover {
		fs.Var(&textFlag{set: func(text string) { line.confirm = text }}, confirmFlag, "")
	}
	var badAction error
	for _, a := range actionFlags {
		fs.Var(&textFlag{bare: true, set: func(text string) {
			on, err := strconv.ParseBool(text)
			if err != nil {
				badAction = &ValueError{Key: a.name, Origin: Origin{Source: FromFlag, Name: "--" + a.name},
					Err: fmt.Errorf("%q is not a boolean: write true or false", text)}
			}
			if on {
				line.action = max(line.action, a.action)
			}
		}}, a.name, "")
	}
	if err := fs.Parse(args); err != nil {
		return nil, badFlag(t, fs, args)
	}
	if err := cmp.Or(badAction, badRestore); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 && fs.Arg(0) == recoverCommand {
		return nil, &UsageError{Text: "recover comes before the options: dkvsrv recover --name VALUE"}
	}
	if fs.NArg() > 0 {
		return nil, &UsageError{Text: fmt.Sprintf(
			"unexpected argument %q: options are written --name VALUE or --name=VALUE, booleans --name or --name=false",
			fs.Arg(0))}
	}
	if line.restore.From != "" {
		if line.action == Recover {
			return nil, &UsageError{Text: "recover is for a folder with data and --restore-from for an empty one: write one of them"}
		}
		line.action = max(line.action, RestoreFrom)
	}
	return line, nil
}

// badFlag describes the argument at which package flag stopped. That package
// rejects no values here, so the argument is either malformed and the next one, or
// the last one that was read, and unknown or without its value.
func badFlag(t *table, fs *flag.FlagSet, args []string) error {
	if next := fs.Arg(0); malformed(next) {
		return &UsageError{Text: fmt.Sprintf("%q is not an option: write --name VALUE or --name=VALUE", next)}
	}
	name, _, _ := strings.Cut(undashed(args[len(args)-fs.NArg()-1]), "=")
	if fs.Lookup(name) != nil {
		return &UsageError{Text: fmt.Sprintf("option --%s needs a value: write --%s VALUE", name, name)}
	}
	known := []string{"config"}
	for _, f := range restoreFlags {
		known = append(known, f.name)
	}
	for _, a := range actionFlags {
		known = append(known, a.name)
	}
	near := suggest.Nearest(name, append(known, t.names...))
	if len(name) == 1 { // as the -v of other programs: no key is near it
		near = ""
		if i := slices.IndexFunc(known, func(k string) bool { return k[0] == name[0] }); i >= 0 {
			near = known[i]
		}
	}
	return &UsageError{Text: "unknown option --" + oneLine(name) + didYouMean("--", near)}
}

// malformed reports whether an argument begins like an option but names none.
func malformed(arg string) bool {
	name := undashed(arg)
	return len(arg) > 1 && arg[0] == '-' && (name == "" || name[0] == '-' || name[0] == '=')
}

// undashed drops the one or two dashes that begin an option.
func undashed(arg string) string { return strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-") }

// didYouMean continues an error about an unknown name.
func didYouMean(prefix, nearest string) string {
	if nearest == "" {
		return "; dkvsrv --help lists all keys"
	}
	return "; did you mean " + prefix + nearest + "?"
}

// textFlag passes on the text of a flag unchanged.
type textFlag struct {
	set  func(text string)
	bare bool
}

func (f *textFlag) Set(text string) error { f.set(text); return nil }
func (f *textFlag) String() string        { return "" }
func (f *textFlag) IsBoolFlag() bool      { return f.bare }

var _ flag.Value = (*textFlag)(nil)
