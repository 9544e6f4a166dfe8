package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/output"
)

// alike is how many findings of a check about the same nodes are printed, unless all are asked
// for: a thousand vBuckets may each have a reason of their own.
const alike = 3

// Write prints the findings for people, and with all every one of them and each check.
func (d *Diagnosis) Write(w io.Writer, all bool) error {
	var b strings.Builder
	printed := make(map[[2]string]int)
	for i, f := range d.Findings {
		about := [2]string{f.Check, f.Node}
		if printed[about]++; printed[about] > alike && !all {
			if left := d.Findings[i+1:]; !slices.ContainsFunc(left, func(o Finding) bool { return o.Check == f.Check && o.Node == f.Node }) {
				fmt.Fprintf(&b, "         ... and %d more of %s%s: -v shows them\n", printed[about]-alike, f.Check, of(f.Node))
			}
			continue
		}
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
