package datadir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dkvdb/dkv/internal/durable"
)

// diskFile holds the random id of the folder: another disk in its place has another one.
const diskFile = "DISK"

// DiskID returns the id of the folder. The first call makes it, durably.
func (d *Dir) DiskID() (string, error) {
	path := filepath.Join(d.path, diskFile)
	raw, err := os.ReadFile(path)
	if err == nil {
		if id, _, whole := strings.Cut(string(raw), "\n"); whole && id != "" {
			return id, nil
		}
		return "", fmt.Errorf("%s is damaged; remove it, and the folder gets another id", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := rand.Text()
	return id, durable.WriteFile(path, []byte(id+"\n"))
}
