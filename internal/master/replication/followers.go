package replication

import (
	"maps"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

const (
	// followerLively is how long a slave counts after it was last heard from.
	followerLively = 10 * time.Second
	// followerKept is how long it is remembered.
	followerKept = time.Minute
	maxFollowers = 4096
)

// followers are the slaves that ask this node. They are known to this process only, and
// forgotten when it ends.
type followers struct {
	mu    sync.Mutex
	seen  map[followerKey]followerState
	swept time.Time
}

type followerKey struct {
	slave   command.Slave
	vBucket string
}

type followerState struct {
	// applied is the position in the slave's last request. What was streamed to it since
	// does not change it.
	applied kv.Index
	at      time.Time
}

func newFollowers() *followers { return &followers{seen: make(map[followerKey]followerState)} }

// heard records that a slave asks, and its position. A slave that does not describe itself
// completely is served all the same, and not recorded.
func (f *followers) heard(r *serverpb.Replica, vBucket string, applied kv.Index) {
	f.note(r, vBucket, func(s *followerState) { s.applied = applied })
}

// lives records that a slave receives what is sent to it.
func (f *followers) lives(r *serverpb.Replica, vBucket string) {
	f.note(r, vBucket, func(*followerState) {})
}

func (f *followers) note(r *serverpb.Replica, vBucket string, change func(*followerState)) {
	if r == nil {
		return
	}
	slave, err := slaveOf(r)
	if err != nil {
		return
	}
	key, now := followerKey{slave, vBucket}, time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.swept) >= followerLively {
		f.sweep(now)
	}
	s, known := f.seen[key]
	if !known && len(f.seen) >= maxFollowers {
		return
	}
	s.at = now
	change(&s)
	f.seen[key] = s
}

func (f *followers) sweep(now time.Time) {
	f.swept = now
	maps.DeleteFunc(f.seen, func(_ followerKey, s followerState) bool { return now.Sub(s.at) > followerKept })
}

// at returns the position of a slave when it last asked, and how long ago it was heard from.
func (f *followers) at(slave command.Slave, vBucket string) (applied kv.Index, since time.Duration, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, known := f.seen[followerKey{slave, vBucket}]
	since = time.Since(s.at)
	if !known || since > followerKept {
		return 0, 0, false
	}
	return s.applied, since, true
}

// lively returns the slaves that have asked this node lately.
func (f *followers) lively() map[command.Slave]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[command.Slave]bool)
	for key, s := range f.seen {
		if time.Since(s.at) <= followerLively {
			out[key.slave] = true
		}
	}
	return out
}

// count returns how many slaves of a vBucket have been heard from lately.
func (f *followers) count(vBucket string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, now := 0, time.Now()
	for key, s := range f.seen {
		if key.vBucket == vBucket && now.Sub(s.at) <= followerLively {
			n++
		}
	}
	return n
}
