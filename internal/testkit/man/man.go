// Package man writes manual pages. Tests make them from the tables that the programs read,
// and fail if a page in deploy/man differs; make reference writes them.
package man

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
)

// Page is a manual page that is being written.
type Page struct{ b strings.Builder }

// New begins a page: a program, the section of the manual, and what it is in a few words.
func New(program string, section int, summary string) *Page {
	p := new(Page)
	fmt.Fprintf(&p.b, ".TH %s %d \"\" DKV \"DKV\"\n.nh\n.ad l\n", strings.ToUpper(program), section)
	p.Section("Name")
	fmt.Fprintf(&p.b, "%s \\- %s\n", program, escape(summary))
	return p
}

// Section begins a section.
func (p *Page) Section(title string) {
	fmt.Fprintf(&p.b, ".SH %s\n", escape(strings.ToUpper(title)))
}

// Part begins a part of a section.
func (p *Page) Part(title string) { fmt.Fprintf(&p.b, ".SS %s\n", escape(title)) }

// Text writes a paragraph.
func (p *Page) Text(text string) { fmt.Fprintf(&p.b, ".PP\n%s\n", escape(text)) }

// Synopsis writes how a program is called.
func (p *Page) Synopsis(program, arguments string) {
	fmt.Fprintf(&p.b, ".PP\n.B %s\n%s\n", program, escape(arguments))
}

// Verbatim writes lines as they are.
func (p *Page) Verbatim(text string) {
	fmt.Fprintf(&p.b, ".PP\n.nf\n%s\n.fi\n", escape(strings.Trim(text, "\n")))
}

// Entry writes a term and, below it, what it means.
func (p *Page) Entry(term, text string) {
	fmt.Fprintf(&p.b, ".TP\n.B %s\n%s\n", escape(term), escape(text))
}

// Check compares the page with a file, or writes that if update is set.
func (p *Page) Check(t testing.TB, file string, update bool) {
	t.Helper()
	testkit.Page(t, file, p.b.String(), update)
}

// escape writes text so that roff prints it as it is: dashes as they are typed, and no line
// as a request.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\"", `\(dq`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
