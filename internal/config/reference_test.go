package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
)

const referenceHead = `<!-- Generated from the key table in internal/config by make reference: change that, not this page. -->
# Configuration reference

Each key of ` + "`dkvsrv`" + ` is a key of the YAML file, a flag and an environment variable: ` + "`listen-addr`" + `, ` + "`--listen-addr`" + ` and ` + "`DKV_LISTEN_ADDR`" + `.
A flag takes precedence over the environment, the environment over the file, and the file over the default. Dots in a name separate levels of
the file. ` + "`-key`" + ` and ` + "`--key`" + ` mean the same, and a boolean without a value means true.

A DURATION is ` + "`100ms`, `5s`, `24h`" + ` or a number of seconds; a SIZE is a number of bytes, ` + "`512MiB` or `1GB`" + `. An unknown name is an error that suggests
the nearest known one.

`

// reference renders the page of the configuration from the key table.
func reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	b.WriteString("## Command line\n\n| option | does |\n|---|---|\n")
	fmt.Fprintf(&b, "| `-c`, `--config FILE` | configuration file (default: the first of `%s` that exists) |\n", strings.Join(ThisHost().Files, "`, `"))
	for _, a := range actionFlags {
		if a.doc != "" {
			fmt.Fprintf(&b, "| `--%s` | %s |\n", a.name, a.doc)
		}
	}
	fmt.Fprintf(&b, "| `%s` | %s |\n| `--%s TOKEN` | %s |\n", recoverCommand, recoverDoc, confirmFlag, confirmDoc)
	for _, f := range restoreFlags {
		fmt.Fprintf(&b, "| `--%s %s` | %s |\n", f.name, f.takes, f.doc)
	}
	for _, g := range newTable().groups {
		fmt.Fprintf(&b, "\n## %s\n", g.title)
		for _, k := range g.keys {
			writeReference(&b, &k)
		}
	}
	return b.String()
}

// writeReference writes one key: its values, its default, the roles that it is for, and
// what it does.
func writeReference(b *strings.Builder, k *key) {
	fmt.Fprintf(b, "\n### `%s`\n\n", k.name)
	kind := k.field(new(Config)).kind()
	if kind == "" {
		kind = "true|false"
	}
	facts := []string{"`" + strings.ReplaceAll(kind, "|", "` or `") + "`"}
	switch {
	case k.derived != "":
		facts = append(facts, "derived: "+k.derived)
	case k.def == "":
		facts = append(facts, "empty by default")
	default:
		facts = append(facts, "default `"+k.def+"`")
	}
	if len(k.roles) > 0 {
		facts = append(facts, "only for role "+k.rolesText())
	}
	if k.has(reloads) {
		facts = append(facts, "read again at SIGHUP")
	}
	if k.has(obsolete) {
		facts = append(facts, "without effect")
	}
	fmt.Fprintf(b, "%s\n\n%s\n", strings.Join(facts, " · "), k.doc)
}

// TestReferenceIsTheTable: docs/reference/configuration.md describes the keys that there are.
func TestReferenceIsTheTable(t *testing.T) {
	testkit.Page(t, "../../docs/reference/configuration.md", reference(), *update)
}
