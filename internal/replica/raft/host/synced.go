package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dkvdb/dkv/internal/crc"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/kv"
)

// A log is compacted up to what the state has made durable. From then on the state cannot
// be older than that: an older one was put back from a copy, and lacks entries that the log
// no longer has. The least entry that a state must have applied is stored beside the log,
// in a file of its own: the entry's index (8) and its CRC-32C (4).

// syncedPrefix begins the names of these files.
const syncedPrefix = "synced-"

func syncedPath(dir string, shard uint64) string {
	return filepath.Join(dir, fmt.Sprint(syncedPrefix, shard))
}

// isSynced reports whether a name is that of such a file.
func isSynced(name string) bool {
	shard, is := strings.CutPrefix(name, syncedPrefix)
	return is && shard != "" && strings.Trim(shard, "0123456789") == ""
}

// NoteSynced stores that a shard's log may be compacted up to index.
func (h *Host) NoteSynced(shard uint64, index kv.Index) error {
	p := binary.BigEndian.AppendUint64(nil, index)
	p = binary.BigEndian.AppendUint32(p, crc.Sum(p))
	return durable.WriteFile(syncedPath(h.opts.Dir, shard), p)
}

// CheckSynced returns an error if a state at index is older than it can be.
func (h *Host) CheckSynced(shard uint64, index kv.Index) error {
	return checkSynced(h.opts.Dir, shard, index)
}

func checkSynced(dir string, shard uint64, index kv.Index) error {
	path := syncedPath(dir, shard)
	p, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(p) != 12 || crc.Sum(p[:8]) != binary.BigEndian.Uint32(p[8:]):
		return fmt.Errorf("%s is damaged; remove this node (dkvctl -removeNode), and let it join with an empty db-folder (--nexus-join)", path)
	}
	if least := binary.BigEndian.Uint64(p); index < least {
		return fmt.Errorf("the state in db-folder is at log entry %d, but it was at %d before, and the log has been compacted up to that: it is an old copy. "+
			"Put the newest one back, or remove this node (dkvctl -removeNode) and let it join with an empty db-folder (--nexus-join)", index, least)
	}
	return nil
}
