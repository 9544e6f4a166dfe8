package bootstrap

import (
	"fmt"
	"slices"
)

// A disk that is restored from an older copy has forgotten what its node voted for and
// which entries it acknowledged. Its files do not show that: they are complete, as they
// once were. So each disk counts its starts and gives each of them a random id, and the
// members record each other's starts. A disk that does not know a start which another
// member knows is an older copy, or one of two copies that were both used.

// rememberedStarts is how many of its starts a disk knows the ids of.
const rememberedStarts = 64

// Start is one start of the process on a disk.
type Start struct {
	// UUID is that of the disk.
	UUID string `json:"uuid"`
	// Number counts the disk's starts, from 1.
	Number uint64 `json:"number"`
	// ID is random, so that two starts of one number can be told apart.
	ID uint64 `json:"id"`
}

// Past are the starts that a disk knows of.
type Past struct {
	UUID string
	// Number is that of the last start, which is the current one.
	Number uint64
	// IDs are those of the last starts, the current one's at the end.
	IDs []uint64
}

// Last returns the current start.
func (p Past) Last() Start {
	if len(p.IDs) == 0 {
		return Start{UUID: p.UUID}
	}
	return Start{UUID: p.UUID, Number: p.Number, ID: p.IDs[len(p.IDs)-1]}
}

// Holds reports whether the disk knows a start. One that is too long ago for its id to
// be remembered counts as known.
func (p Past) Holds(s Start) bool {
	if s.UUID != p.UUID || s.Number > p.Number {
		return false
	}
	back := p.Number - s.Number
	return back >= uint64(len(p.IDs)) || p.IDs[uint64(len(p.IDs))-1-back] == s.ID
}

// check returns an error for a past that cannot be.
func (p Past) check() error {
	if len(p.IDs) > rememberedStarts || uint64(len(p.IDs)) > p.Number || p.Number > 0 && len(p.IDs) == 0 {
		return fmt.Errorf("%d starts with %d ids", p.Number, len(p.IDs))
	}
	return nil
}

// begin counts a start.
func (r *record) begin() {
	r.Starts++
	r.StartIDs = append(slices.Clone(r.StartIDs), randomID())
	if n := len(r.StartIDs); n > rememberedStarts {
		r.StartIDs = r.StartIDs[n-rememberedStarts:]
	}
}

// Past returns the starts of this node's disk, of which the last is the current one.
func (id *Identity) Past() Past {
	id.mu.Lock()
	defer id.mu.Unlock()
	return Past{UUID: id.rec.UUID, Number: id.rec.Starts, IDs: slices.Clone(id.rec.StartIDs)}
}

// OlderCopy returns the error of a disk that does not know a start which others know. It
// wraps ErrOlderCopy.
func (id *Identity) OlderCopy(heard Start, by string) error {
	past := id.Past()
	if heard.UUID != past.UUID {
		return fmt.Errorf("%w: %s knows replica %d with disk %s, and this one is %s; remove the node (dkvctl -removeNode %s), start it on an empty "+
			"data folder with --nexus-join and add it again (dkvctl -addNode %s)", ErrOlderCopy, by, id.Replica, heard.UUID, past.UUID, id.URL, id.URL)
	}
	return id.OlderDisk(fmt.Errorf("%s has heard of start %d of this node, which the folder knows nothing of (this is start %d of it)",
		by, heard.Number, past.Number))
}

// OlderDisk returns the error of a disk that is an older copy, for a reason. It wraps
// ErrOlderCopy.
func (id *Identity) OlderDisk(reason error) error {
	return fmt.Errorf("%w: %w: it is an older copy, and what the node voted for and acknowledged since the copy was taken is missing here, and writes "+
		"would be lost. Put the newest data folder back; if there is none, remove the node (dkvctl -removeNode %s), start it on an empty data folder "+
		"with --nexus-join and add it again (dkvctl -addNode %s)", ErrOlderCopy, reason, id.URL, id.URL)
}

// Retire writes down that this disk must never take part in the cluster again, and why:
// Enter rejects it from then on, whether other members answer or not.
func (id *Identity) Retire(reason error) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.rec.Retired != "" {
		return nil
	}
	return id.change(func(r *record) { r.Retired = reason.Error() })
}
