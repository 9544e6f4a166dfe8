package report

import (
	"time"

	"github.com/dkvdb/dkv/internal/backup"
)

// Backups are the backups in the node's backup-dir that could be restored, as far as their manifests
// say: one of all vBuckets counts once.
type Backups struct {
	Dir   string    `json:"dir"`
	Count int       `json:"count"`
	Last  time.Time `json:"last"`           // when the newest was made; zero if there is none
	Name  string    `json:"name,omitempty"` // and where, below Dir
	Fault string    `json:"fault,omitempty"`
}

// backupsIn looks for backups. A folder that does not exist has none.
func backupsIn(dir string) Backups {
	found := Backups{Dir: dir}
	if dir == "" {
		return found
	}
	all, err := backup.List(dir)
	if err != nil {
		found.Fault = err.Error()
		return found
	}
	for _, b := range all { // the newest first
		if b.Error != "" {
			continue
		}
		if found.Count++; found.Count == 1 {
			found.Last, found.Name = b.Created, b.Path
		}
	}
	return found
}
