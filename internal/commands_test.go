package internal_test

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/ctl/options"
)

// shellLanguages are those of blocks in which commands are typed.
var shellLanguages = []string{"sh", "bash", "console"}

// TestCommandsOfPagesExist: each command of dkvctl and dkvsrv that a page shows is accepted
// by the parser of the program.
func TestCommandsOfPagesExist(t *testing.T) {
	commands := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if !slices.Contains(shellLanguages, b.language) || p.path == "docs/reference/dkvctl.md" {
				continue
			}
			if b.language == "console" {
				b.text = prompted(b.text)
			}
			for _, args := range typed(b.text) {
				commands++
				if err := accepted(args); err != nil {
					t.Errorf("%s, in the block of line %d: %q: %v", p.path, b.line, args, err)
				}
			}
		}
		for _, span := range code.FindAllString(p.prose, -1) {
			for _, args := range typed(strings.Trim(span, "`")) {
				if err := accepted(args); err != nil && strings.Contains(err.Error(), "unknown") {
					t.Errorf("%s: %s: %v", p.path, span, err)
				}
			}
		}
	}
	if commands < 70 {
		t.Errorf("only %d commands were found", commands)
	}
}

// TestCommandsAreChecked is the control of the test above.
func TestCommandsAreChecked(t *testing.T) {
	for _, line := range []string{
		"./bin/dkvctl -a 127.0.0.1:8080 -set foo", "dkvctl -statsu", "DKVCTL_TOKEN_FILE=x dkvctl -get foo -leevl seq", "echo; dkvsrv --rol master",
		"dkvsrv --db-engine rocks", "dkvsrv --role master \\\n --nexus-jion",
	} {
		all := typed(line)
		if len(all) != 1 || accepted(all[0]) == nil {
			t.Errorf("%q: %q is accepted", line, all)
		}
	}
	if all := typed("dkvctl -a NODE -watch | head; x=$(dkvctl -get a) # dkvctl -nothing"); len(all) != 2 || accepted(all[0]) != nil || accepted(all[1]) != nil {
		t.Errorf("not two commands that are accepted: %q", all)
	}
}

var (
	continued   = regexp.MustCompile(`\\\n\s*`)
	commandEnd  = regexp.MustCompile(`[|;&<>()]`)
	substituted = regexp.MustCompile(`\$\(([^()]*)\)`)
	words       = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)
	placeholder = regexp.MustCompile(`^[A-Z][A-Z0-9_-]*$`)
	numbered    = regexp.MustCompile(`(\d)(N|\$i)\b`)
)

// prompted returns what is typed in a console, without what was answered.
func prompted(text string) string {
	var out strings.Builder
	more := false
	for line := range strings.Lines(text) {
		if more || strings.HasPrefix(line, "$ ") {
			out.WriteString(strings.TrimPrefix(line, "$ "))
			more = strings.HasSuffix(line, "\\\n")
		}
	}
	return out.String()
}

// typed returns the commands of the two programs in a text, each with its program first.
func typed(text string) (out [][]string) {
	text = continued.ReplaceAllString(text, " ")
	for _, m := range substituted.FindAllStringSubmatch(text, -1) {
		out = append(out, typed(m[1])...)
	}
	text = substituted.ReplaceAllString(text, "1")
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(" "+strings.TrimSpace(line), " #")
		for _, command := range split(line) {
			all := words.FindAllString(command, -1)
			for i, w := range all {
				if name := w[strings.LastIndexByte(w, '/')+1:]; (name == "dkvctl" || name == "dkvsrv") && i+1 < len(all) && assignments(all[:i]) {
					out = append(out, append([]string{name}, unquoted(all[i+1:])...))
					break
				}
			}
		}
	}
	return out
}

// split cuts a line between its commands, and not inside of quotes.
func split(line string) (out []string) {
	start, quote := 0, byte(0)
	for i := range len(line) {
		switch c := line[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case commandEnd.MatchString(line[i : i+1]):
			out, start = append(out, line[start:i]), i+1
		}
	}
	return append(out, line[start:])
}

// assignments reports whether words may stand before a command.
func assignments(before []string) bool {
	return !slices.ContainsFunc(before, func(w string) bool {
		return !strings.Contains(w, "=") && !slices.Contains([]string{"(", "!", "sudo", "time", "exec", "if", "until", "while", "-u", "dkv"}, w)
	})
}

func unquoted(args []string) (out []string) {
	for _, a := range args {
		if a != "..." && a != "…" {
			out = append(out, strings.Trim(a, `"'`))
		}
	}
	return out
}

// accepted parses a command as its program does, with values for what stands for one.
func accepted(args []string) error {
	if args[0] == "dkvctl" {
		filled := slices.Clone(args[1:])
		for i, a := range filled {
			switch {
			case i > 0 && (filled[i-1] == "-a" || filled[i-1] == "-dkvAddr"):
				filled[i] = nodes(a)
			case placeholder.MatchString(a):
				filled[i] = "1"
			}
		}
		_, err := options.Parse(filled)
		return err
	}
	var filled []string
	for i := 1; i < len(args); i++ {
		if args[i] == "--config" || args[i] == "-c" { // the file of the user
			i++
			continue
		}
		if a := numbered.ReplaceAllString(args[i], "${1}1"); placeholder.MatchString(a) {
			filled = append(filled, "1")
		} else {
			filled = append(filled, a)
		}
	}
	host := config.ThisHost()
	host.Files = nil
	_, err := config.LoadOn(host, filled, nil)
	var missing *os.PathError
	if errors.As(err, &missing) { // a file of the user
		return nil
	}
	return err
}

// nodes makes addresses of names that stand for nodes: OTHER, or HOST:PORT.
func nodes(list string) string {
	all := strings.Split(list, ",")
	for i, a := range all {
		if host, port, found := strings.Cut(a, ":"); !found || placeholder.MatchString(port) {
			all[i] = host + ":8080"
		}
	}
	return strings.Join(all, ",")
}
