package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Listed is a backup as its manifests describe it. Nothing is verified.
type Listed struct {
	// Path is its folder below backup-dir.
	Path    string    `json:"path"`
	Created time.Time `json:"created"`
	Version string    `json:"version"`
	// Database and VBuckets are what it is a copy of.
	Database string `json:"database"`
	VBuckets int    `json:"vbuckets"`
	Bytes    uint64 `json:"bytes"`
	// Error is why it could not be restored; empty for nothing that is known.
	Error string `json:"error,omitempty"`
	// all is how many vBuckets the database has.
	all int
}

// List returns the backups in the folders directly below root, the newest first. A root that
// does not exist has none.
func List(root string) ([]Listed, error) {
	folders, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return []Listed{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("backup-dir: %w", err)
	}
	out := []Listed{}
	for _, f := range folders {
		if strings.HasPrefix(f.Name(), ".") {
			continue // a copy in progress
		}
		if l, is := listed(filepath.Join(root, f.Name())); f.IsDir() && is {
			l.Path = f.Name()
			out = append(out, l)
		}
	}
	slices.SortStableFunc(out, func(a, b Listed) int { return b.Created.Compare(a.Created) })
	return out, nil
}

// listed describes the backup of one vBucket, or of several in folders of their own. It
// reports false for a folder that is none.
func listed(dir string) (Listed, bool) {
	if IsOne(dir) {
		var out Listed
		out.add(dir)
		return out, true
	}
	parts, err := os.ReadDir(dir)
	if err != nil {
		return Listed{}, false
	}
	var out Listed
	for _, p := range parts {
		if part := filepath.Join(dir, p.Name()); p.IsDir() && IsOne(part) {
			out.add(part)
		}
	}
	switch {
	case out.VBuckets == 0 && out.Error == "":
		return Listed{}, false
	case out.VBuckets < out.all && out.Error == "":
		out.Error = fmt.Sprintf("%d of its %d vBuckets are missing", out.all-out.VBuckets, out.all)
	}
	return out, true
}

// add adds the copy of a vBucket.
func (l *Listed) add(dir string) {
	m, err := readManifest(dir)
	if err != nil {
		l.Error = err.Error()
		return
	}
	l.VBuckets++
	l.Bytes += m.Bytes()
	l.Database, l.Version, l.all = m.Database, m.Version, max(l.all, m.VBuckets)
	if m.Created.After(l.Created) {
		l.Created = m.Created
	}
}
