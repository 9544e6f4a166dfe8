package dkv

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Whatever the order in which requests end, all up to acked have, the next one has
// not, and no sequence comes twice.
func TestSession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSession()
		var open []uint64
		last := uint64(0)
		for range rapid.IntRange(1, 3000).Draw(t, "steps") {
			// Bursts of one kind make the ring grow.
			if rapid.IntRange(0, 2).Draw(t, "step") > 0 || len(open) == 0 {
				var id serverpb.RequestID
				s.begin(&id)
				if id.Sequence != last+1 || id.ClientId == 0 || id.Acked >= id.Sequence {
					t.Fatalf("id %v after sequence %d", &id, last)
				}
				want := last
				if len(open) > 0 {
					want = slices.Min(open) - 1
				}
				if id.Acked != want {
					t.Fatalf("acked %d, want %d", id.Acked, want)
				}
				last = id.Sequence
				open = append(open, last)
				continue
			}
			i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
			s.end(open[i])
			open = slices.Delete(open, i, i+1)
		}
	})
}

func TestSessionConcurrently(t *testing.T) {
	s := newSession()
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for range 1000 {
				var ids [3]serverpb.RequestID
				for i := range ids {
					s.begin(&ids[i])
				}
				for _, i := range rand.Perm(len(ids)) {
					s.end(ids[i].Sequence)
				}
			}
		})
	}
	g.Wait()
	if s.acked != 24_000 || s.next != 24_001 {
		t.Errorf("acked %d, next %d", s.acked, s.next)
	}
}

func TestRepeatable(t *testing.T) {
	s := newSession()
	var id, later serverpb.RequestID
	s.begin(&id)
	if !s.repeatable(id.Sequence, time.Now()) {
		t.Error("a new request may not be repeated")
	}
	if s.repeatable(id.Sequence, time.Now().Add(-repeatWithin)) {
		t.Error("servers may have forgotten an old request")
	}
	for range repeatAmong {
		s.begin(&later)
		s.end(later.Sequence)
	}
	if s.repeatable(id.Sequence, time.Now()) || !s.repeatable(later.Sequence, time.Now()) {
		t.Error("servers may have forgotten a request before many others")
	}
}
