package options

import (
	"fmt"
	"strings"
	"time"
)

// Groups of commands, in the order of the help.
const (
	groupKeys     = "Keys"
	groupCluster  = "Cluster"
	groupNodes    = "Nodes"
	groupSecurity = "Security"
	groupOther    = "Other"
)

const (
	HelpWidth  = 100 // columns
	helpIndent = 36  // where descriptions begin
)

const helpIntro = `dkvctl reads and writes the keys of a DKV database, operates its nodes and measures them.

Usage: dkvctl [-a HOST:PORT] COMMAND ARGUMENTS [OPTIONS]
`

const helpNotes = `
How it is typed:
  -set, --set and, before any argument, a bare set mean the same. Options stand before or after.
  A word with a dash that is not a known name is an argument if it is a number, or if the command
  still lacks one and the word does not look like a misspelt option. What follows -- is never an
  option: dkvctl -set -- -key- -value-
  A star at the end of a PREFIX is not part of it; "*" means all keys.

Results go to stdout, values as they are; errors to stderr, one line. An error of a write that was
sent says "not applied" (it had no effect) or "outcome unknown" (it may have taken effect).
Exit codes: 0 success, 1 failure (also -verify that found a difference, -doctor that found a
problem, -status without a majority, -health of a node that does not serve), 2 bad usage, 3 -get of
a key that does not exist, 4 -cas of a key that holds another value.
Environment, for what the command line does not set: DKVCTL_ADDR, DKVCTL_TLS, DKVCTL_TLS_CA_FILE,
DKVCTL_TLS_CERT_FILE, DKVCTL_TLS_KEY_FILE, DKVCTL_TOKEN_FILE, or DKVCTL_TOKEN for the token itself.
-shell keeps what is typed, without values and tokens, in DKVCTL_HISTORY (default
~/.dkvctl_history; nowhere if it is set and empty). NO_COLOR turns the colours of -top off.
With -o json each result is one JSON document on a line, with names written as in /health
(applied_index). Keys and values are strings if they are valid UTF-8; otherwise the member is named
key_base64 or value_base64.

Examples:
  dkvctl -a 127.0.0.1:8080 -set foo bar
  dkvctl -get foo -level seq
  dkvctl -set session abc -ttl 30m
  dkvctl -iter "user/*" -limit 10
  dkvctl -a 10.0.0.1:8080,10.0.0.2:8080 -status
  dkvctl -addNode http://10.0.0.4:9020
  dkvctl -addNode http://10.1.0.5:9020 -nonVoting
  dkvctl -a 10.0.0.2:8080 -stepDown
  dkvctl -bench mixed -workers 64 -duration 30s -o json
  source <(dkvctl -completion bash)
`

const benchNotes = `
Operations: put, get, mixed (gets and puts), iterate, multiput, multiget, cas, incr, echo (only
against tools/refserver) and check (reads a -ledger back). Default: mixed.
Without -rate the loop is closed: each worker sends its next request when the last one is answered.
With -ref, the server there and the nodes of -a are measured in turn, and the medians are compared.
The reference servers are run from the source tree: go run ./tools/refserver echo 127.0.0.1:9999
Exit code 1: nothing succeeded, -stopOnError stopped it, it was interrupted, or check found a loss.

Examples:
  dkvctl -bench put -workers 256 -duration 10s
  dkvctl -bench get -zipf 0.99 -level seq -rate 20000
  dkvctl -bench get -ref 127.0.0.1:9999 -rounds 5
  dkvctl -bench put -ledger acked -stopOnError; dkvctl -bench check -ledger acked
`

// notes are what the help of a command says beyond its options.
var notes = map[string]string{"bench": benchNotes, "certs": certsNotes, "token": tokenNotes}

// Help returns the text of -help: about the command that args name, or about all.
func Help(args []string) (string, error) {
	if len(args) == 0 {
		return fullHelp(), nil
	}
	p := parser{commands: Commands(), options: Table()}
	name, _, _, _ := splitWord(args[0])
	c := p.findCommand(name)
	if c == nil {
		return "", p.unknown("command", args[0])
	}
	return commandHelp(c), nil
}

func fullHelp() string {
	var b strings.Builder
	b.WriteString(helpIntro)
	for _, group := range []string{groupKeys, groupCluster, groupNodes, groupSecurity, groupOther} {
		fmt.Fprintf(&b, "\n%s:\n", group)
		for _, c := range Commands() {
			if c.group == group && !c.Hidden {
				entry(&b, spelling(c.Name, c.aliases, c.usage), c.summary)
			}
		}
	}
	b.WriteString("\nOptions of every command:\n")
	writeOptions(&b, func(o *Option) bool { return o.commands == nil })
	b.WriteString("\nOptions of some (dkvctl help bench lists those of -bench):\n")
	writeOptions(&b, func(o *Option) bool { return o.commands != nil && o.commands[0] != "bench" })
	b.WriteString(helpNotes)
	return b.String()
}

func commandHelp(c *Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n", c.synopsis())
	for _, line := range wrap(c.summary, HelpWidth-2) {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	if takes := c.takes("-timeout"); takes != "" {
		fmt.Fprintf(&b, "  %s\n", takes)
	}
	b.WriteString("\nOptions:\n")
	writeOptions(&b, func(o *Option) bool { return o.commands != nil && o.appliesTo(c) })
	writeOptions(&b, func(o *Option) bool { return o.commands == nil && o.appliesTo(c) })
	b.WriteString(notes[c.Name])
	return b.String()
}

// shortDuration is a whole number of minutes without its seconds.
func shortDuration(d time.Duration) string { return strings.TrimSuffix(d.String(), "0s") }

func writeOptions(b *strings.Builder, wanted func(*Option) bool) {
	for _, o := range Table() {
		if wanted(o) {
			entry(b, spelling(o.Name, o.aliases, o.value), o.summary)
		}
	}
}

// spelling shows a name with its shorthands and what follows it.
func spelling(name string, aliases []string, usage string) string {
	var b strings.Builder
	for _, a := range aliases {
		if len(a) == 1 {
			b.WriteString("-" + a + ", ")
		}
	}
	return strings.TrimSpace(b.String() + "-" + name + " " + usage)
}

// entry writes a name and its wrapped description.
func entry(b *strings.Builder, name, description string) {
	lines := wrap(description, HelpWidth-helpIndent)
	if len(name)+2 >= helpIndent {
		fmt.Fprintf(b, "  %s\n", name)
	} else {
		fmt.Fprintf(b, "  %-*s%s\n", helpIndent-2, name, lines[0])
		lines = lines[1:]
	}
	for _, line := range lines {
		fmt.Fprintf(b, "%*s%s\n", helpIndent, "", line)
	}
}

// wrap breaks text between words into lines of at most width bytes.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}
