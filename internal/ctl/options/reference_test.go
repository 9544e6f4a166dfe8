package options

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
)

var update = flag.Bool("update", false, "write docs/reference/dkvctl.md from the tables of commands and options")

const referenceHead = `<!-- Generated from the tables in internal/ctl/options by make reference: change those, not this page. -->
# dkvctl reference

` + "```" + `
dkvctl [-a HOST:PORT] COMMAND ARGUMENTS [OPTIONS]
` + "```" + `

`

// reference renders the page of dkvctl: its commands with the options of each, the options
// of all, and the notes of the help.
func reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	b.WriteString("## Options of every command\n\n")
	writeRows(&b, func(o *Option) bool { return o.commands == nil })
	for _, group := range []string{groupKeys, groupCluster, groupNodes, groupSecurity, groupOther} {
		fmt.Fprintf(&b, "\n## %s\n", group)
		for _, c := range Commands() {
			if c.group == group && !c.Hidden {
				writeReference(&b, c)
			}
		}
	}
	fmt.Fprintf(&b, "\n## Notes\n\n```text\n%s```\n", strings.TrimLeft(helpNotes, "\n"))
	return b.String()
}

func writeReference(b *strings.Builder, c *Command) {
	fmt.Fprintf(b, "\n### `-%s`\n\n```\n%s\n```\n\n", c.Name, spelling(c.Name, c.aliases, c.usage))
	summary := strings.ToUpper(c.summary[:1]) + c.summary[1:] + "."
	if takes := c.takes("`-timeout`"); takes != "" {
		summary += " " + takes
	}
	b.WriteString(plain(summary) + "\n")
	own := func(o *Option) bool { return o.commands != nil && o.appliesTo(c) }
	for _, o := range Table() {
		if own(o) {
			b.WriteString("\n")
			writeRows(b, own)
			break
		}
	}
	if note := notes[c.Name]; note != "" {
		fmt.Fprintf(b, "\n```text\n%s```\n", strings.TrimLeft(note, "\n"))
	}
}

func writeRows(b *strings.Builder, wanted func(*Option) bool) {
	b.WriteString("| option | meaning |\n|---|---|\n")
	for _, o := range Table() {
		if wanted(o) {
			fmt.Fprintf(b, "| `%s` | %s |\n", strings.ReplaceAll(spelling(o.Name, o.aliases, o.value), "|", `\|`), plain(o.summary))
		}
	}
}

// plain keeps Markdown from reading signs of a summary as its own.
func plain(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;", "{{", "{&#8203;{").Replace(text)
}

// TestReferenceIsTheTables: docs/reference/dkvctl.md describes the commands and options that
// there are.
func TestReferenceIsTheTables(t *testing.T) {
	testkit.Page(t, "../../../docs/reference/dkvctl.md", reference(), *update)
}
