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

// asideFile names a generation that is kept when another one has replaced it, and on a second
// line the folder that it is then moved to.
const (
	asideFile   = "ASIDE"
	asidePrefix = "aside-"
)

// SetAside has the present generation kept when another one replaces it, and returns the
// folder that it is moved to then. what names its content. Nothing happens before that.
func (g *Generations) SetAside(what string) (string, error) {
	if what == "" || strings.ContainsAny(what, "/\\\r\n\x00") {
		return "", fmt.Errorf("%q cannot be part of a folder's name", what)
	}
	present := filepath.Base(g.Current())
	folder := filepath.Join(g.path, asidePrefix+what)
	for i := 2; ; i++ {
		if _, err := os.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
		folder = filepath.Join(g.path, fmt.Sprintf("%s%s-%d", asidePrefix, what, i))
	}
	return folder, durable.WriteFile(filepath.Join(g.path, asideFile), []byte(present+"\n"+filepath.Base(folder)+"\n"))
}

// discard deletes the folder of a generation, or moves it to where it was set aside to.
func (g *Generations) discard(dir string) error {
	raw, err := os.ReadFile(filepath.Join(g.path, asideFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lines := strings.Split(string(raw), "\n")
	if len(lines) != 3 || lines[0] != filepath.Base(dir) || !strings.HasPrefix(lines[1], asidePrefix) {
		return os.RemoveAll(dir)
	}
	if err := os.Rename(dir, filepath.Join(g.path, lines[1])); err != nil {
		return err
	}
	if err := durable.SyncDir(g.path); err != nil {
		return err
	}
	return os.Remove(filepath.Join(g.path, asideFile))
}
