package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dkvdb/dkv/internal/durable"
)

const (
	currentFile = "CURRENT"
	genPrefix   = "gen-"
	tmpPrefix   = "tmp-"
)

// Generations are the engine directories of one vBucket, of which one is the
// present. Its methods are not safe for concurrent use.
type Generations struct {
	path    string
	current int
	// used says that there must be an engine: a node has had it open before.
	used bool
	// doubt is why it is not known which generation the next start will find; nil if it is.
	doubt error
	// write replaces a file durably; durable.WriteFile, or a test's fault.
	write func(path string, content []byte) error
}

func (g *Generations) open() error {
	if err := durable.MkdirAll(g.path); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(g.path, currentFile)); errors.Is(err, fs.ErrNotExist) {
		if err := g.begin(); err != nil {
			return err
		}
	}
	if err := g.readCurrent(); err != nil {
		return err
	}
	return g.RemoveOthers()
}

// readCurrent finds the present generation, and checks that it is there.
func (g *Generations) readCurrent() error {
	raw, err := os.ReadFile(filepath.Join(g.path, currentFile))
	if err != nil {
		return err
	}
	if g.current = number(strings.TrimSpace(string(raw))); g.current == 0 {
		return fmt.Errorf("%s holds %q, which is no generation; restore a backup into an empty folder", currentFile, raw)
	}
	// An engine would open a folder that is not there as an empty database, and
	// what it might have been taken for would be removed as a leftover.
	if fi, err := os.Stat(g.Current()); err != nil || !fi.IsDir() {
		return fmt.Errorf("%s names %s, which is missing; put it back or restore a backup into an empty folder",
			currentFile, filepath.Base(g.Current()))
	}
	if g.used {
		if entries, err := os.ReadDir(g.Current()); err != nil {
			return err
		} else if len(entries) == 0 {
			return fmt.Errorf("%s, which %s names, is empty; put back what was in it or restore a backup into an empty folder",
				filepath.Base(g.Current()), currentFile)
		}
	}
	return nil
}

// Used reports whether there must be an engine with a state in the present generation: a node
// has had it open before.
func (g *Generations) Used() bool { return g.used }

// begin makes the first generation of a new vBucket.
func (g *Generations) begin() error {
	if err := g.refuseOrphans(); err != nil {
		return err
	}
	first := g.dir(1)
	if err := os.Mkdir(first, 0o700); err != nil {
		return err
	}
	return g.Commit(first)
}

// refuseOrphans fails if there are generations but nothing says which of them
// is the present one. An empty one is what a crash in begin leaves.
func (g *Generations) refuseOrphans() error {
	entries, err := os.ReadDir(g.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if number(e.Name()) == 0 {
			continue
		}
		if os.Remove(filepath.Join(g.path, e.Name())) != nil { // fails unless it is empty
			return fmt.Errorf("%s is missing beside %s; write the right generation's name into it", currentFile, e.Name())
		}
	}
	return nil
}

func (g *Generations) dir(n int) string {
	return filepath.Join(g.path, fmt.Sprintf("%s%06d", genPrefix, n))
}

// number parses a generation's name; 0 is no generation. Names that only look
// alike, such as a copy that an operator made, are left alone.
func number(name string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(name, genPrefix))
	if err != nil || n < 1 || name != fmt.Sprintf("%s%06d", genPrefix, n) {
		return 0
	}
	return n
}

// Current returns the present engine directory; it is empty if the vBucket
// is new.
func (g *Generations) Current() string { return g.dir(g.current) }

// Next returns the directory to build the next generation in. It does not
// exist, and is on the same file system as the present one. It fails after a Commit with
// an uncertain outcome: the next start may find that directory to be the present generation.
func (g *Generations) Next() (string, error) {
	if g.doubt != nil {
		return "", fmt.Errorf("%w; restart the node", g.doubt)
	}
	next := g.dir(g.current + 1)
	if err := os.RemoveAll(next); err != nil {
		return "", err
	}
	return next, nil
}

// Commit makes dir, which Next returned and whose files are durable, the
// present generation. After an error the present one stays what it was, unless
// the error wraps ErrUncertain.
func (g *Generations) Commit(dir string) error {
	n := number(filepath.Base(dir))
	if n != g.current+1 {
		return fmt.Errorf("generation %s does not follow %d", dir, g.current)
	}
	if err := durable.SyncDir(g.path); err != nil {
		return err
	}
	if err := g.write(filepath.Join(g.path, currentFile), []byte(filepath.Base(dir)+"\n")); err != nil {
		if errors.Is(err, durable.ErrUncertain) {
			g.doubt = err
		}
		return err
	}
	g.current = n
	return nil
}

// Scratch returns a directory for temporary use on the same file system. It does
// not exist; the caller that creates it removes it, and so does the next open.
func (g *Generations) Scratch(purpose string) (string, error) {
	path := filepath.Join(g.path, tmpPrefix+purpose)
	return path, os.RemoveAll(path)
}

// Remove deletes a generation that is not the present one, unless it was set aside.
func (g *Generations) Remove(dir string) error {
	if n := number(filepath.Base(dir)); n == 0 || n == g.current || filepath.Dir(dir) != g.path {
		return fmt.Errorf("%s is not a replaced generation", dir)
	}
	return g.discard(dir)
}

// RemoveOthers deletes all generations but the present one, and scratch
// directories. None of them may be in use.
func (g *Generations) RemoveOthers() error {
	entries, err := os.ReadDir(g.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		n := number(e.Name())
		path := filepath.Join(g.path, e.Name())
		var err error
		switch {
		case n != 0 && n != g.current:
			err = g.discard(path)
		case strings.HasPrefix(e.Name(), tmpPrefix):
			err = os.RemoveAll(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
