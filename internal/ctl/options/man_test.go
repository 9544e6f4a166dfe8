package options

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit/man"
)

// TestReferenceIsTheManualPage: deploy/man/dkvctl.1 says what the tables of commands and options say.
func TestReferenceIsTheManualPage(t *testing.T) {
	p := man.New("dkvctl", 1, "read and write the keys of a DKV database, and operate its nodes")
	p.Section("Synopsis")
	p.Synopsis("dkvctl", "[-a HOST:PORT] COMMAND ARGUMENTS [OPTIONS]")
	p.Section("Commands")
	for _, group := range []string{groupKeys, groupCluster, groupNodes, groupSecurity, groupOther} {
		p.Part(group)
		for _, c := range Commands() {
			if c.group == group && !c.Hidden {
				p.Entry(spelling(c.Name, c.aliases, c.usage), c.summary)
			}
		}
	}
	p.Section("Options")
	bench := func(o *Option) bool { return o.commands != nil && o.commands[0] == "bench" }
	for _, part := range []struct {
		title  string
		wanted func(*Option) bool
	}{
		{"Of every command", func(o *Option) bool { return o.commands == nil }},
		{"Of some", func(o *Option) bool { return o.commands != nil && !bench(o) }},
		{"Of -bench", bench},
	} {
		p.Part(part.title)
		for _, o := range Table() {
			if part.wanted(o) {
				p.Entry(spelling(o.Name, o.aliases, o.value), o.summary)
			}
		}
	}
	p.Section("Notes")
	text, examples, _ := strings.Cut(helpNotes, "\nExamples:\n")
	p.Verbatim(text)
	p.Section("Examples")
	p.Verbatim(examples)
	p.Section("See also")
	p.Text("dkvsrv(8); dkvctl -help COMMAND has more about one command")
	p.Check(t, "../../../deploy/man/dkvctl.1", *update)
}
