package output

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable is a text as a terminal may show it: what moves the cursor, changes colours or
// titles, or turns the direction of what follows is escaped as in a Go string. Texts come from
// nodes and from the network, and must not be able to act on the terminal or to pass for lines
// of dkvctl. Keys and values that were asked for are printed as they are, and not by this.
func Printable(text string) string {
	if !strings.ContainsFunc(text, hidden) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[0])|0x100, 16)[1:])
		case hidden(r):
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteString(text[:n])
		}
		text = text[n:]
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }

// OneLine puts an error text on one line, whatever a server wrote into it.
func OneLine(text string) string {
	return Printable(strings.Join(strings.Fields(text), " "))
}

// OrDash is a cell of a table, or a dash for an empty one.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Mebibytes writes a number of bytes.
func Mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
