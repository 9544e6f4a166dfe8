package confirm

import (
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// need is what answers have waited for, of one disk at one level, and it has not confirmed.
type need struct {
	// index is the greatest that an answer has waited for; 0 for none. since is when the first
	// one began to wait.
	index kv.Index
	since time.Time
}

// needs are those of disks at each level, in one tenure of the log's owner and one history.
type needs struct {
	of      map[string]*[kv.AckSync + 1]need
	tenure  uint64
	history string
}

// await notes that an answer waits for an index at a level. What it waits for stays unconfirmed
// when it gives up: the next answers wait for it, too. l.mu is held.
func (l *Log) await(index kv.Index, level kv.Ack, now time.Time) {
	tenure, history := l.state.Tenure(), l.state.History()
	if l.needs.of == nil || l.needs.tenure != tenure || l.needs.history != history {
		l.needs = needs{make(map[string]*[kv.AckSync + 1]need), tenure, history}
	}
	level = min(level, kv.AckSync)
	for i := range l.set.Nodes {
		disk := l.set.Nodes[i].Disk
		if l.reached(disk, level) >= index {
			continue
		}
		of := l.needs.of[disk]
		if of == nil {
			of = new([kv.AckSync + 1]need)
			l.needs.of[disk] = of
		}
		if of[level].index == 0 {
			of[level].since = now
		}
		of[level].index = max(of[level].index, index)
	}
}

// fulfilled forgets what a disk has confirmed. l.mu is held.
func (l *Log) fulfilled(disk string) {
	of := l.needs.of[disk]
	if of == nil {
		return
	}
	left := false
	for level := range of {
		if of[level].index != 0 && l.reached(disk, kv.Ack(level)) >= of[level].index {
			of[level] = need{}
		}
		left = left || of[level].index != 0
	}
	if !left {
		delete(l.needs.of, disk)
	}
}

// unlisted forgets the disks that answers wait for no longer. l.mu is held.
func (l *Log) unlisted() {
	for disk := range l.needs.of {
		if _, listed := l.set.Find(disk); !listed {
			delete(l.needs.of, disk)
		}
	}
}

// Stuck is for how long a disk of the standing set has confirmed nothing although an answer has
// waited for it, which may have given up meanwhile; 0 if it has confirmed all of that.
func (l *Log) Stuck(disk string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh()
	of := l.needs.of[disk]
	if of == nil || l.needs.tenure != l.state.Tenure() || l.needs.history != l.state.History() {
		return 0
	}
	var longest time.Duration
	for level := range of {
		if of[level].index == 0 {
			continue
		}
		since := of[level].since
		if moved := l.seats[disk].moved(kv.Ack(level)); moved.After(since) {
			since = moved
		}
		longest = max(longest, time.Since(since))
	}
	return longest
}
