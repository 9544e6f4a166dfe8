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
		return nil, errors.New("the quote " + string(rune(open)) + " is not closed")
	}
	return words, nil
}

// split returns the words of a line, where the last one begins, and the quote that is open at
// its end; 0 for none. It goes by bytes, since a value from a pipe need not be UTF-8.
func split(line string) (words []string, last int, quote byte) {
	var word strings.Builder
	begun, escaped := false, false
	for i := range len(line) {
		b := line[i]
		if !begun {
			last = i
		}
		switch {
		case escaped:
			word.WriteByte(b)
			escaped = false
		case b == '\\' && quote != '\'':
			begun, escaped = true, true
		case quote != 0:
			if b == quote {
				quote = 0
			} else {
				word.WriteByte(b)
			}
		case b == '\'' || b == '"':
			begun, quote = true, b
		case b == ' ' || b == '\t':
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			begun = true
			word.WriteByte(b)
		}
	}
	if escaped {
		word.WriteByte('\\')
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
