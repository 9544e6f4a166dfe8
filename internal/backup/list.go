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

// Bounds of where backups are looked for: one may be in a folder of folders, as 2026/may/monday, and
// backup-dir may be shared.
const (
	// deepest is the most folders from backup-dir to a backup.
	deepest = 3
	// maxLooked bounds the folders that are looked at and are not directly below backup-dir.
	maxLooked = 1000
)

// look calls visit for the folders below root that may be backups or hold some, as far as visit
// reports that it is to look into them. A folder below root that cannot be read holds none.
func look(root string, visit func(below string) (into bool)) error {
	looked := 0
	var in func(below string, depth int) error
	in = func(below string, depth int) error {
		folders, err := os.ReadDir(filepath.Join(root, below))
		for _, f := range folders {
			if !f.IsDir() || strings.HasPrefix(f.Name(), ".") {
				continue // a copy in progress
			}
			if depth > 1 {
				if looked == maxLooked {
					return err
				}
				looked++
			}
			path := filepath.Join(below, f.Name())
			if visit(path) && depth < deepest && looked < maxLooked {
				_ = in(path, depth+1) // as lost+found, which is root's
			}
		}
		return err
	}
	return in("", 1)
}

// List returns the backups below root, the newest first. A root that does not exist has none.
func List(root string) ([]Listed, error) {
	out := []Listed{}
	err := look(root, func(below string) (into bool) {
		l, is := listed(filepath.Join(root, below))
		if is {
			l.Path = below
			out = append(out, l)
		}
		return !is
	})
	if errors.Is(err, fs.ErrNotExist) {
		return []Listed{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("backup-dir: %w", err)
	}
	slices.SortStableFunc(out, func(a, b Listed) int { return b.Created.Compare(a.Created) })
	return out, nil
}

// listed describes the backup of one vBucket, or of several in folders of their own. It
// reports false for a folder that is none, as one that other backups are in.
func listed(dir string) (Listed, bool) {
	if IsOne(dir) {
		var out Listed
		out.add(readManifest(dir))
		return out, true
	}
	parts, err := os.ReadDir(dir)
	if err != nil {
		return Listed{}, false
	}
	var out Listed
	var found []Part
	others := false
	for _, p := range parts {
		part := filepath.Join(dir, p.Name())
		if !p.IsDir() || !IsOne(part) {
			continue
		}
		if m, err := readManifest(part); err == nil && !m.isPart(p.Name()) {
			others = true
		} else {
			found = append(found, Part{part, m.Info})
			out.add(m, err)
		}
	}
	switch err := Together(found); {
	case out.VBuckets == 0 && (others || out.Error == ""):
		return Listed{}, false
	case err != nil && out.Error == "":
		out.Error = err.Error()
	case out.VBuckets < out.all && out.Error == "":
		out.Error = fmt.Sprintf("%d of its %d vBuckets are missing", out.all-out.VBuckets, out.all)
	}
	return out, true
}

// isPart reports whether a backup in a folder of a name is part of one of several vBuckets, each in
// a folder with its name.
func (m *Manifest) isPart(name string) bool {
	return m.VBuckets > 1 || m.VBuckets == 0 && m.VBucket == name // which format 1 does not say
}

// add adds the copy of a vBucket, whose manifest was read.
func (l *Listed) add(m Manifest, err error) {
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
