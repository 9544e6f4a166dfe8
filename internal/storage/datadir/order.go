package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dkvdb/dkv/internal/durable"
)

// orderFile holds an operator's order to give up a generation: its name, and a line of
// text that the caller understands. It means nothing once another one is the present.
const orderFile = "RESYNC"

// Order writes down, durably, that the present generation is to be given up. text is one
// line for the code that carries it out.
func (g *Generations) Order(text string) error {
	if strings.Contains(text, "\n") {
		return fmt.Errorf("an order is one line, not %q", text)
	}
	return durable.WriteFile(filepath.Join(g.path, orderFile), []byte(filepath.Base(g.Current())+"\n"+text+"\n"))
}

// Ordered returns the text of the order to give up the present generation, and whether
// there is one.
func (g *Generations) Ordered() (text string, ordered bool, err error) {
	raw, err := os.ReadFile(filepath.Join(g.path, orderFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	lines := strings.Split(string(raw), "\n")
	if len(lines) != 3 || lines[0] != filepath.Base(g.Current()) {
		return "", false, nil // it was carried out, or is not one
	}
	return lines[1], true, nil
}
