package badger

import (
	"slices"
	"sync"
)

// snapshots knows which version is current and which older ones are still
// being read.
type snapshots struct {
	mu        sync.Mutex
	published uint64
	open      []pin // ascending
}

type pin struct {
	version uint64
	readers int
}

// acquire pins the current version and returns it.
func (s *snapshots) acquire() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.open); n > 0 && s.open[n-1].version == s.published {
		s.open[n-1].readers++
	} else {
		s.open = append(s.open, pin{s.published, 1})
	}
	return s.published
}

// retain pins once more a version that is pinned.
func (s *snapshots) retain(version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[s.find(version)].readers++
}

// release undoes one acquire or retain.
func (s *snapshots) release(version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(version)
	if s.open[i].readers--; s.open[i].readers == 0 {
		s.open = slices.Delete(s.open, i, i+1)
	}
}

func (s *snapshots) find(version uint64) int {
	i, _ := slices.BinarySearchFunc(s.open, version, func(p pin, v uint64) int {
		switch {
		case p.version < v:
			return -1
		case p.version > v:
			return 1
		default:
			return 0
		}
	})
	return i
}

// publish makes version the current one and returns the oldest that may still
// be read.
func (s *snapshots) publish(version uint64) (oldest uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = version
	if len(s.open) > 0 {
		return s.open[0].version
	}
	return version
}

// current is the version that was published last.
func (s *snapshots) current() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.published
}
