package tail

import (
	"fmt"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/command"
)

// Entries is a log in which entries can be looked up.
type Entries interface {
	// Entries returns those from low up to but not including high, or as many of
	// them as have about so many bytes, but at least one.
	Entries(low, high, maxSize uint64) ([]raftpb.Entry, error)
}

// readBytes bounds how many bytes of a log are in memory at a time.
const readBytes = 1 << 20

// Each calls f with the entries from low up to but not including high.
func Each(log Entries, low, high uint64, f func(*raftpb.Entry) error) error {
	for low < high {
		entries, err := log.Entries(low, high, readBytes)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return fmt.Errorf("the log does not show entry %d", low)
		}
		for i := range entries {
			if err := f(&entries[i]); err != nil {
				return err
			}
		}
		low += uint64(len(entries))
	}
	return nil
}

// CommandOf returns the command of an entry, if it has one. Dragonboat puts a byte before it,
// which says how it is encoded: 0 is as it was proposed.
func CommandOf(e *raftpb.Entry) (c command.Command, is bool, err error) {
	raw := e.Cmd
	if !e.IsUpdateEntry() || len(raw) == 0 {
		return c, false, nil
	}
	if e.Type == raftpb.EncodedEntry {
		if raw[0] != 0 {
			return c, true, fmt.Errorf("entry %d has the encoding %d, which is not known here", e.Index, raw[0])
		}
		raw = raw[1:]
	}
	c, err = command.Decode(raw)
	if err != nil {
		err = fmt.Errorf("entry %d: %w", e.Index, err)
	}
	return c, true, err
}
