package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	raw, err := os.ReadFile(mistakesPage)
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
		s.looked(t, &section, m, s.state(t, m.line))
	}
	if log, err := os.ReadFile(node.logPath()); err != nil || !strings.Contains(string(log), "level=ERROR msg=\"the disk is nearly full: writes are rejected until there is room\"") {
		t.Errorf("%v; the log does not say that the disk is full:\n%s", err, log)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for _, m := range []mistake{
		{"The same write when there is room again; nothing has to be restarted", "dkvctl -a FULL -set foo bar", 0, "OK"},
		{"And the health", "dkvctl -a FULL -health", 0, "OK"},
	} {
		s.looked(t, &section, m, s.state(t, m.line))
	}
	return section.String()
}

// state is the run of a line, of whose output a head may be taken.
func (s *scene) state(t *testing.T, typed string) func() (code int, text string) {
	line, head, cut := strings.Cut(typed, " | head -")
	lines := 0
	if cut {
		if _, err := fmt.Sscan(head, &lines); err != nil {
			t.Fatal(err)
		}
	}
	return func() (int, string) {
		code, printed, said := s.output(t, line)
		if all := strings.SplitAfter(printed, "\n"); cut {
			return code, strings.Join(all[:min(lines, len(all))], "")
		}
		return code, printed + said
	}
}
