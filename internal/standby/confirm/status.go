package confirm

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// counts count how answers ended.
type counts struct {
	confirmed, fellBack  [levels]atomic.Uint64
	nanos                [levels]atomic.Int64
	refused, unconfirmed atomic.Uint64
}

// levels are those that an answer may reach.
const levels = kv.AckAll + 1

func (c *counts) waited(level kv.Ack, took time.Duration) {
	c.confirmed[level].Add(1)
	c.nanos[level].Add(int64(took))
}

// Counts are how answers ended since the start.
type Counts struct {
	// Confirmed are how many standbys have confirmed, by level, and Waited is how long that took
	// together. At kv.AckAll they are those that every node had applied, too, which count at the
	// level of the standbys as well.
	Confirmed [levels]uint64
	Waited    [levels]time.Duration
	// FellBack were given without a standby because there is none, by the level that was asked
	// for. Refused were rejected for that before they were applied, and Unconfirmed were applied
	// and not confirmed.
	FellBack             [levels]uint64
	Refused, Unconfirmed uint64
}

// Counts returns the counters.
func (l *Log) Counts() Counts {
	c := &l.counts
	out := Counts{Refused: c.refused.Load(), Unconfirmed: c.unconfirmed.Load()}
	for level := range levels {
		out.Confirmed[level], out.FellBack[level] = c.confirmed[level].Load(), c.fellBack[level].Load()
		out.Waited[level] = time.Duration(c.nanos[level].Load())
	}
	return out
}

// Slot is a slave that confirms to this node, as of now.
type Slot struct {
	Slave Slave
	// Connected reports whether it has a connection; Lost says for how long it has none.
	Connected bool
	Lost      time.Duration
	Position  Position
	// Follows reports whether it is in the log's history.
	Follows bool
	// Lag is how many indexes it has not received, SyncLag how many it has not on disk.
	// They are those of the whole log if it is in another history.
	Lag, SyncLag uint64
	// Age is how long ago it last confirmed anything.
	Age time.Duration
}

// Slots returns the slaves that confirm, or that the standing set lists and that have
// confirmed before, by address.
func (l *Log) Slots() []Slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh()
	now, end, history := time.Now(), l.state.LastEffect(), l.state.History()
	out := make([]Slot, 0, len(l.seats))
	for disk, s := range l.seats {
		received, synced := l.reached(disk, kv.AckSemiSync), l.reached(disk, kv.AckSync)
		slot := Slot{
			Slave: s.slave, Connected: s.link != nil, Position: s.at, Age: now.Sub(s.heard), Follows: s.at.History == history,
			Lag: end - min(end, received), SyncLag: end - min(end, synced),
		}
		if s.link == nil {
			slot.Lost = now.Sub(s.lost)
		}
		out = append(out, slot)
	}
	slices.SortFunc(out, func(a, b Slot) int {
		return cmp.Or(cmp.Compare(a.Slave.Address, b.Slave.Address), cmp.Compare(a.Slave.Disk, b.Slave.Disk))
	})
	return out
}

// Has reports whether a disk has confirmed, at a level, all changes up to an index of the
// applied state.
func (l *Log) Has(disk string, level kv.Ack, index kv.Index) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reached(disk, level) >= min(index, l.state.LastEffect())
}

// Waiting returns how many answers wait.
func (l *Log) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}
