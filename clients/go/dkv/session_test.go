package dkv

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/api/serverpb"
)

// began is a request that has begun.
type began struct {
	session  *session
	client   uint64
	sequence uint64
}

// In whatever order requests end: all up to acked have ended and the next one has not, no
// id is used twice, and no session has more open requests than servers remember.
func TestSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSessions()
		var under []began
		last := make(map[uint64]uint64)
		most := 0
		for range rapid.IntRange(1, 3000).Draw(t, "steps") {
			// Bursts of one kind take several sessions.
			if rapid.IntRange(0, 2).Draw(t, "step") > 0 || len(under) == 0 {
				var id serverpb.RequestID
				session := s.begin(&id)
				if id.ClientId == 0 || id.Sequence != last[id.ClientId]+1 || id.Acked >= id.Sequence || id.Sequence-id.Acked > window {
					t.Fatalf("id %v after sequence %d", &id, last[id.ClientId])
				}
				want := id.Sequence - 1
				for _, o := range under {
					if o.client == id.ClientId {
						want = min(want, o.sequence-1)
					}
				}
				if id.Acked != want {
					t.Fatalf("acked %d, want %d", id.Acked, want)
				}
				last[id.ClientId] = id.Sequence
				under = append(under, began{session, id.ClientId, id.Sequence})
				most = max(most, len(under))
				continue
			}
			i := rapid.IntRange(0, len(under)-1).Draw(t, "which")
			under[i].session.end(under[i].sequence)
			under = slices.Delete(under, i, i+1)
		}
	})
}

// A slow request fills only its own session, and sessions are reused when they have room.
func TestSessionsAreFew(t *testing.T) {
	s := newSessions()
	var slow [3]serverpb.RequestID
	clients := make(map[uint64]bool)
	for i := range slow {
		held := s.begin(&slow[i])
		defer held.end(slow[i].Sequence)
		for range 10 * window {
			var id serverpb.RequestID
			s.begin(&id).end(id.Sequence)
			clients[id.ClientId] = true
		}
	}
	if len(s.all) != len(slow)+1 || len(clients) != len(slow)+1 {
		t.Errorf("%d sessions, %d of them used, want %d", len(s.all), len(clients), len(slow)+1)
	}
	var id serverpb.RequestID
	if s.begin(&id); id.Acked+1 != id.Sequence {
		t.Errorf("id %v does not acknowledge what was answered", &id)
	}
}

func TestSessionsConcurrently(t *testing.T) {
	s := newSessions()
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for range 1000 {
				var ids [3]serverpb.RequestID
				var at [3]*session
				for i := range ids {
					at[i] = s.begin(&ids[i])
				}
				for _, i := range rand.Perm(len(ids)) {
					at[i].end(ids[i].Sequence)
				}
			}
		})
	}
	g.Wait()
	sum := uint64(0)
	for _, n := range s.all {
		if n.room() != window {
			t.Errorf("acked %d, next %d", n.acked, n.next)
		}
		sum += n.acked
	}
	if sum != 24_000 {
		t.Errorf("%d requests, want 24000", sum)
	}
}
