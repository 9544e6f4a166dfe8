package report

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/backup"
)

// Backups are the backups in the node's backup-dir.
type Backups struct {
	Dir   string    `json:"dir"`
	Count int       `json:"count"`
	Last  time.Time `json:"last"`           // when the newest was made; zero if there is none
	Name  string    `json:"name,omitempty"` // and where, below Dir
	Fault string    `json:"fault,omitempty"`
}

const (
	// backupDepth is how deep below backup-dir backups are looked for.
	backupDepth = 3
	// maxLooked bounds the folders that are looked at.
	maxLooked = 1000
)

// backupsIn looks for backups. A folder that does not exist has none.
func backupsIn(dir string) Backups {
	found := Backups{Dir: dir}
	if dir == "" {
		return found
	}
	looked := 0
	if err := found.look(dir, "", backupDepth, &looked); err != nil && !errors.Is(err, fs.ErrNotExist) {
		found.Fault = err.Error()
	}
	return found
}

func (b *Backups) look(root, below string, depth int, looked *int) error {
	if *looked++; *looked > maxLooked {
		return nil
	}
	if made, is := backup.Made(filepath.Join(root, below)); is {
		b.Count++
		if made.After(b.Last) {
			b.Last, b.Name = made, below
		}
		return nil // there is none inside another one
	}
	if depth == 0 {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(root, below))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") { // which a copy in progress is in
			continue
		}
		err := b.look(root, filepath.Join(below, e.Name()), depth-1, looked)
		// A folder of the file system's own, as lost+found, has no backup of this node's.
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}
