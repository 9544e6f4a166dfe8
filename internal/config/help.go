package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// helpWidth is the longest line of the help, in columns.
const helpWidth = 100

const helpHead = `dkvsrv serves a distributed key-value store over gRPC.

Usage: dkvsrv [recover] [--config FILE] [--KEY VALUE | --KEY=VALUE]...

Every key below is a flag, a key of the YAML file (dots separate levels) and an environment
variable (--listen-addr is DKV_LISTEN_ADDR). A flag takes precedence over the environment, the
environment over the file, and the file over the default. -key and --key mean the same; a boolean
without a value means true. DURATION is 100ms, 5s, 24h, or a number of seconds. SIZE is a number
of bytes, 512MiB or 1GB.
`

// writeHelp writes all flags, grouped by concern.
func writeHelp(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprint(out, helpHead)
	fmt.Fprint(out, "\nCommand line\n")
	host := ThisHost()
	writeOption(out, "-c, --config FILE", fmt.Sprintf("configuration file (default: the first of %s that exists)", strings.Join(host.Files, ", ")))
	for _, a := range actionFlags {
		if a.doc != "" {
			writeOption(out, "--"+a.name, a.doc)
		}
	}
	writeOption(out, recoverCommand, recoverDoc)
	writeOption(out, "--"+confirmFlag+" TOKEN", confirmDoc)
	for _, f := range restoreFlags {
		writeOption(out, "--"+f.name+" "+f.takes, f.doc)
	}
	for _, g := range newTable().groups {
		fmt.Fprintf(out, "\n%s\n", g.title)
		for _, k := range g.keys {
			writeOption(out, strings.TrimSpace("--"+k.name+" "+k.field(new(Config)).kind()), k.doc+" "+k.defaultText())
		}
	}
	return out.Flush()
}

// defaultText returns the key's default for the help.
func (k *key) defaultText() string {
	switch {
	case k.derived != "":
		return "(derived: " + k.derived + ")"
	case k.def == "" || k.field(new(Config)).kind() == "NAME":
		return fmt.Sprintf("(default %q)", k.def)
	default:
		return "(default " + k.def + ")"
	}
}

// writeOption writes a flag and, indented below it, what it does.
func writeOption(w io.Writer, flag, doc string) {
	fmt.Fprintf(w, "  %s\n", flag)
	const indent = "      "
	for _, line := range wrap(doc, helpWidth-len(indent)) {
		fmt.Fprintf(w, "%s%s\n", indent, line)
	}
}

// wrap breaks text at spaces into lines of at most width bytes. A longer word has a line of
// its own.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
