package confirm

import (
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// waiter is an answer that waits for standbys.
type waiter struct {
	index kv.Index
	want  kv.Ack
	since time.Time
	done  chan answer
}

// answer is how a wait ends.
type answer struct {
	reached kv.Ack
	err     error
}

// floors are the indexes that every node of the standing set has reached: one for each
// level. l.mu is held.
func (l *Log) floors() (out [kv.AckSync + 1]kv.Index) {
	if len(l.set.Nodes) == 0 {
		return out
	}
	for _, level := range []kv.Ack{kv.AckSemiSync, kv.AckSync} {
		least := ^kv.Index(0)
		for i := range l.set.Nodes {
			least = min(least, l.reached(l.set.Nodes[i].Disk, level))
		}
		out[level] = least
	}
	return out
}

// reached is the index up to which a disk has confirmed a level. If it is listed at another
// address than it confirms from, it may be a copy of the one that is listed. l.mu is held.
func (l *Log) reached(disk string, level kv.Ack) kv.Index {
	s := l.seats[disk]
	if s == nil || s.at.History != l.state.History() {
		return 0
	}
	if n, listed := l.set.Find(disk); listed && n.Address != s.slave.Address {
		return 0
	}
	if level >= kv.AckSync {
		if !s.slave.Durable {
			return 0
		}
		return s.at.Synced
	}
	return max(s.at.Received, s.at.Synced)
}

// judge returns the answer of a waiter if its wait is over. l.mu is held.
func (l *Log) judge(w *waiter, floors [kv.AckSync + 1]kv.Index) (answer, bool) {
	level, pending, err := l.promise(w.want)
	switch {
	case err != nil:
		return answer{err: unconfirmed(err)}, true
	case level <= kv.AckAsync:
		if l.set.Fallback {
			l.counts.fellBack[min(max(l.opts.Level, l.set.Level), kv.AckAll)].Add(1)
		}
		return answer{reached: kv.AckAsync}, true
	case pending:
		return answer{}, false
	}
	level = min(level, kv.AckSync)
	if floors[level] < w.index {
		return answer{}, false
	}
	l.counts.waited(level, time.Since(w.since))
	return answer{reached: level}, true
}

// settle answers those whose wait is over, all at once. l.mu is held.
func (l *Log) settle() {
	if len(l.waiting) == 0 {
		return
	}
	floors := l.floors()
	l.waiting = slices.DeleteFunc(l.waiting, func(w *waiter) bool {
		a, done := l.judge(w, floors)
		if done {
			w.done <- a
		}
		return done
	})
}

// remove takes a waiter out. l.mu is held.
func (l *Log) remove(w *waiter) {
	if i := slices.Index(l.waiting, w); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}
