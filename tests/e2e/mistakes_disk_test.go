package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
)

// onFullDisk is what is printed while there is no room on the disk of the node FULL. Of a line
// that ends in "| head -N", the first N lines.
var onFullDisk = group{"A disk that fills while the node runs", []mistake{
	{"It serves reads, and says what it does not do", "dkvctl -a FULL -health", 0, "rejects writes: the disk is nearly full"},
	{"A write", "dkvctl -a FULL -set foo bar", 1, "writes resume by themselves"},
	{"The status", "dkvctl -a FULL -status", 0, "rejecting writes: the disk is nearly full"},
	{"What is wrong, and what mends it", "dkvctl -a FULL -doctor | head -3", 1, "mend: remove what else is on that disk"},
	{"The live view", "dkvctl -a FULL -top -n 1 | head -2", 0, "writes are rejected"},
}}

// keptSection is what the page says of a group; empty if it does not have it.
func keptSection(t *testing.T, title string) string {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "MISTAKES.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(raw), "\n## "+title+"\n")
	if !found {
		return ""
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return "\n## " + title + "\n" + section
}

// fullDisk fills the disk of a node, looks at it in every way, and makes room again. It returns
// the section of the page.
func (s *scene) fullDisk(t *testing.T) string {
	dir := smallFileSystem(t, 128<<20)
	node := newFixture(t, dir, "--node-name", "node7", "--disk-reserve", "24MiB", "--write-buffer-size", "4MiB")
	s.names["FULL"], s.names["DISK"] = node.grpc, dir
	ballast := filepath.Join(dir, "ballast")
	if err := fill(ballast); err != nil {
		t.Fatal(err)
	}
	var section strings.Builder
	fmt.Fprintf(&section, "\n## %s\n", onFullDisk.title)
	for _, m := range onFullDisk.mistakes {
		s.looked(t, &section, m)
	}
	if log, err := os.ReadFile(node.logPath()); err != nil || !strings.Contains(string(log), "level=ERROR msg=\"the disk is nearly full: writes are rejected until there is room\"") {
		t.Errorf("%v; the log does not say that the disk is full:\n%s", err, log)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.looked(t, &section, mistake{"The same write when there is room again; nothing has to be restarted", "dkvctl -a FULL -set foo bar", 0, "OK"})
	s.looked(t, &section, mistake{"And the health", "dkvctl -a FULL -health", 0, "OK"})
	return section.String()
}

// looked runs a line until it prints what it should, and adds it to the page.
func (s *scene) looked(t *testing.T, section *strings.Builder, m mistake) {
	line, head, cut := strings.Cut(m.line, " | head -")
	lines := 0
	if cut {
		if _, err := fmt.Sscan(head, &lines); err != nil {
			t.Fatal(err)
		}
	}
	var code int
	var text string
	right := func() bool { return code == m.code && strings.Contains(text, m.hint) }
	testkit.Soon(func() bool {
		var printed, said string
		code, printed, said = s.output(t, line)
		text = printed + said
		if cut {
			text = strings.Join(strings.SplitAfter(printed, "\n")[:lines], "")
		}
		return right()
	})
	if !right() {
		t.Errorf("%s: exit code %d, want %d; want %q in\n%s", m.title, code, m.code, m.hint, text)
	}
	fmt.Fprintf(section, "\n%s (exit code %d):\n\n```\n$ %s\n%s```\n", m.title, code, typed(m.line), s.show(text))
}
