package confirm

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// Slave is a slave that confirms, as it introduces itself.
type Slave struct {
	// Disk is the id of its disk, and Start the random id of its present start.
	Disk  string
	Start uint64
	// Address is the host:port at which it serves gRPC, DC its data centre.
	Address, DC string
	// Durable reports whether the disk keeps what is synced.
	Durable bool
}

// Link is one connection of a slave. A later one of the same disk takes its place.
type Link struct {
	Slave Slave
	// number orders the links of a process.
	number uint64
}

var links atomic.Uint64

// NewLink makes the link of a slave that has connected.
func NewLink(s Slave) *Link { return &Link{Slave: s, number: links.Add(1)} }

// Position is how far a slave is in a log.
type Position struct {
	// History is what the indexes belong to.
	History string
	// Received, Applied and Synced are up to where the slave has received all changes, has
	// applied them, and has them on disk.
	Received, Applied, Synced kv.Index
}

// seat is what is known of one disk.
type seat struct {
	slave Slave
	// link is the present connection; nil if there is none.
	link *Link
	// last is the number of the last link.
	last uint64
	at   Position
	// heard is when the slave last confirmed anything, lost when its last link ended.
	heard, lost time.Time
	// received and synced are when it last confirmed more than before.
	received, synced time.Time
	// most is the greatest index that it has ever had on disk in history mostOf, under any
	// start.
	most   kv.Index
	mostOf string
}

// ErrReplaced ends a link whose slave has connected again.
var ErrReplaced = errors.New("the slave with this disk has connected again")

// Copied ends the link of a slave whose disk has the id of another one's that confirms as well: one of
// the two folders is a copy of the other. What both say would be taken for what one disk has.
type Copied struct {
	// Address is that of the other slave.
	Address string
}

func (c *Copied) Error() string {
	return "the slave at " + c.Address + " confirms with the id of the same disk: one of the two db-folders is a copy of the other"
}

// aliveFor is how long a listed slave may confirm nothing before another one with its disk takes its place: it
// confirms each second.
const aliveFor = 3 * time.Second

// copied returns the error of a slave that another one with its disk keeps out: that of the address
// which is listed, as long as it confirms, or the one that was there first, as long as it is connected. A slave that
// has another address since it was started again has no connection from there any more. Without a level that waits
// for slaves nothing counts, and no one is kept out. l.mu is held.
func (l *Log) copied(present *seat, next Slave) error {
	if present.link == nil || present.slave.Address == next.Address || max(l.opts.Level, l.set.Level) <= kv.AckAsync {
		return nil
	}
	if n, listed := l.set.Find(next.Disk); listed {
		switch n.Address {
		case next.Address:
			return nil
		case present.slave.Address:
			if time.Since(present.heard) >= aliveFor {
				return nil
			}
		}
	}
	return &Copied{present.slave.Address}
}

// maxSeats bounds how many disks are known of one log: any slave may connect.
const maxSeats = 1024

var errSeats = kv.Errorf(kv.Exhausted, "%d slaves confirm to this vBucket already, which is the limit", maxSeats)

// Confirm notes how far a slave is.
func (l *Log) Confirm(link *Link, at Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seats[link.Slave.Disk]
	if s == nil {
		if len(l.seats) >= maxSeats {
			return errSeats
		}
		s = &seat{}
		l.seats[link.Slave.Disk] = s
	}
	l.refresh()
	if err := l.copied(s, link.Slave); err != nil {
		return err
	}
	if link.number < s.last {
		return ErrReplaced
	}
	if s.slave.Start == link.Slave.Start && s.at.History == at.History {
		// What was confirmed under one start stays true.
		at.Received, at.Applied, at.Synced = max(at.Received, s.at.Received), max(at.Applied, s.at.Applied), max(at.Synced, s.at.Synced)
	}
	now := time.Now()
	if at.Received > s.at.Received || at.History != s.at.History {
		s.received = now
	}
	if at.Synced > s.at.Synced || at.History != s.at.History {
		s.synced = now
	}
	s.slave, s.link, s.last, s.at, s.heard = link.Slave, link, link.number, at, now
	s.remember(l.state.History(), l.state.LastEffect())
	l.fulfilled(link.Slave.Disk)
	l.settle()
	return nil
}

// remember notes what the disk has, and does not forget what it had in the log's own history. What
// the log itself does not have, up to end, no one was promised: a disk that has claimed it, perhaps
// by another one under its name, must not lack it for ever.
func (s *seat) remember(own string, end kv.Index) {
	switch synced := min(s.at.Synced, end); {
	case s.at.History == s.mostOf:
		s.most = max(s.most, synced)
	case s.at.History == own || s.mostOf != own:
		s.most, s.mostOf = synced, s.at.History
	}
}

// Fallen returns how far a disk is and how far it has been, if it lacks at a level what it has
// confirmed from its disk before: it has an older copy now, as after dkvctl -resync. fallen
// reports whether that is so.
func (l *Log) Fallen(disk string, level kv.Ack) (at, before kv.Index, fallen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seats[disk]
	if s == nil || s.mostOf != l.state.History() {
		return 0, 0, false
	}
	if s.at.History == s.mostOf && s.at.Synced == 0 && s.at.Applied >= s.most {
		return 0, 0, false // it was started again, and says what is on its disk after its first sync
	}
	at = l.reached(disk, level)
	return at, s.most, at < s.most
}

// moved is when a disk last confirmed more at a level.
func (s *seat) moved(level kv.Ack) time.Time {
	switch {
	case s == nil:
		return time.Time{}
	case level >= kv.AckSync:
		return s.synced
	default:
		return s.received
	}
}

// Lost notes that a link has ended. What its slave has confirmed stays true of its disk as
// long as it is waited for.
func (l *Log) Lost(link *Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seats[link.Slave.Disk]
	if s == nil || s.last != link.number {
		return
	}
	s.link, s.lost = nil, time.Now()
	if _, listed := l.set.Find(link.Slave.Disk); !listed {
		delete(l.seats, link.Slave.Disk)
	}
}

// Wanted is what the owner of the log wants of a slave.
type Wanted struct {
	// Listed reports whether the slave is in the standing set, Sync whether it is to sync
	// after each stretch that it applies.
	Listed, Sync bool
	// Owner is the owner's address, if that is another node.
	Owner string
}

// Wanted returns what is wanted of a disk.
func (l *Log) Wanted(disk string) (w Wanted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh()
	_, w.Listed = l.set.Find(disk)
	if owner := l.state.Owner(); !owner.Self {
		w.Owner = owner.Address
		return w
	}
	w.Sync = w.Listed && (max(l.opts.Level, l.set.Level) >= kv.AckSync || time.Now().Before(l.syncUntil))
	return w
}
