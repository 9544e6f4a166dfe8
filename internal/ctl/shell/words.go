// Package shell is the prompt of dkvctl -shell: it reads lines from a terminal, with history
// and completion, or from anything else, and has each of them run as a command line.
package shell

import (
	"errors"
	"strings"
)

// Words splits a line as a POSIX shell does: at spaces, with quotes and backslashes, but
// without anything else that shells replace.
func Words(line string) ([]string, error) {
	words, _, open := split(line)
	if open != 0 {
		return nil, errors.New("the quote " + string(open) + " is not closed")
	}
	return words, nil
}

// split returns the words of a line, where the last one begins, and the quote that is open at
// its end; 0 for none.
func split(line string) (words []string, last int, quote rune) {
	var word strings.Builder
	begun, escaped := false, false
	for i, r := range line {
		if !begun {
			last = i
		}
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			begun, escaped = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			begun, quote = true, r
		case r == ' ' || r == '\t':
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	if escaped {
		word.WriteRune('\\')
	}
	if begun {
		words = append(words, word.String())
	}
	return words, last, quote
}

// quoted writes a word so that Words reads it back.
func quoted(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t'\"\\") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
