package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/output"
)

// Write prints the findings for people, and with all each check.
func (d *Diagnosis) Write(w io.Writer, all bool) error {
	var b strings.Builder
	for _, f := range d.Findings {
		fmt.Fprintf(&b, "%-8s %s%s: %s\n", strings.ToUpper(string(f.Severity)), f.Check, of(f.Node), line(f.What))
		fmt.Fprintf(&b, "         why:  %s\n", line(f.Why))
		fmt.Fprintf(&b, "         mend: %s\n", line(f.Mend))
	}
	if all {
		for _, c := range d.Checks {
			fmt.Fprintf(&b, "%-8s %s: %s\n", c.State, c.ID, c.Title)
		}
	}
	count := make(map[State]int)
	for _, c := range d.Checks {
		count[c.State]++
	}
	fmt.Fprintf(&b, "%s of %s: %s, %s; %d checks found nothing", number(len(d.Checks), "check"), number(d.Nodes, "node"),
		number(d.Problems, "problem"), number(d.Warnings, "warning"), count[OK]+count[Partly])
	if n := count[Skipped]; n > 0 {
		fmt.Fprintf(&b, ", %d could not be made", n)
	}
	if n := count[Partly]; n > 0 {
		fmt.Fprintf(&b, ", %d of them not on all nodes", n)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func of(node string) string {
	if node == "" {
		return ""
	}
	return " " + line(node)
}

func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// line puts a text of a server on one line of a terminal.
func line(text string) string { return output.Printable(strings.Join(strings.Fields(text), " ")) }
