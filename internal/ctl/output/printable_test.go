package output

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

// TestTextsCannotActOnTheTerminal: neither in a line nor in a cell of a table.
func TestTextsCannotActOnTheTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain, – and ü":          "plain, – and ü",
		"\x1b]0;title\a":          `\x1b]0;title\a`,
		"a\nb\tc\r":               `a\nb\tc\r`,
		"\u202egpj.exe":           `\u202egpj.exe`,
		"\u009b31m":               `\u009b31m`,
		"\x9b31m \xff":            `\x9b31m \xff`,
		"\U000e0041 \ufeff\u00ad": `\U000e0041 \ufeff\u00ad`,
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
	}
	var out bytes.Buffer
	p := &Printer{W: bufio.NewWriter(&out)}
	if err := p.Line("state: ", "\x1b[2J\nall is well"); err != nil {
		t.Fatal(err)
	}
	if err := WriteColumns(p.W, [][]string{{"\x1b[31mname", "x\ty\n3 alive"}}); err != nil {
		t.Fatal(err)
	}
	if err := p.W.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 2 {
		t.Errorf("printed %q", got)
	}
}
