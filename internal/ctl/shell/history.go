package shell

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/ctl/options"
)

// historyLines is how many lines are kept.
const historyLines = 1000

// History is what was typed before, the newest last. What it writes to its file has no
// secrets and no values: others may read backups of home folders.
type History struct {
	lines []string
	path  string
	fault error // of the first failed write
}

// OpenHistory reads a history; without a path it is kept in memory only. The file is made
// when there is something to write, for its owner alone.
func OpenHistory(path string) (*History, error) {
	h := &History{path: path}
	if path == "" {
		return h, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		h.lines = append(h.lines, lines.Text())
	}
	if len(h.lines) > historyLines {
		h.lines = h.lines[len(h.lines)-historyLines:]
		h.fault = os.WriteFile(path, []byte(strings.Join(h.lines, "\n")+"\n"), historyMode)
	}
	return h, h.fault
}

const historyMode = 0o600

// Add implements term.History.
func (h *History) Add(line string) {
	line = strings.TrimRight(line, " \t")
	if line == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	if h.lines = append(h.lines, line); len(h.lines) > historyLines {
		h.lines = slices.Delete(h.lines, 0, 1)
	}
	if kept := keepable(line); h.path != "" && kept != "" && h.fault == nil {
		h.fault = h.write(kept)
	}
}

// Len and At implement term.History: 0 is the newest line.
func (h *History) Len() int        { return len(h.lines) }
func (h *History) At(i int) string { return h.lines[len(h.lines)-1-i] }

func (h *History) write(line string) error {
	f, err := os.OpenFile(h.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, historyMode)
	if err != nil {
		return err
	}
	if err := f.Chmod(historyMode); err != nil { // it may be older, and open to others
		return errors.Join(err, f.Close())
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// keepable returns what of a line may be written to a file; empty for nothing. A line that
// begins with a space is not kept, as in other shells, nor is one about tokens; writes are
// kept without their values.
func keepable(line string) string {
	words, err := Words(line)
	if err != nil || strings.HasPrefix(line, " ") || len(words) == 0 {
		return ""
	}
	if strings.Contains(line, token.Prefix) || strings.Contains(strings.ToLower(line), "bearer") {
		return ""
	}
	for i, word := range words {
		c := options.FindCommand(word)
		if c == nil {
			continue
		}
		switch c.Name {
		case "token":
			return ""
		case "set", "mset", "cas":
			words = words[:min(len(words), i+2)]
		}
		break
	}
	for i := range words {
		words[i] = quoted(words[i])
	}
	return strings.Join(words, " ")
}
