package route

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// ownedBy is a replica of which only the owner is asked.
type ownedBy struct {
	replica.Replica
	owner func() replica.Owner
}

func (r ownedBy) Owner() replica.Owner { return r.owner() }

// TestRequestWithoutAnOwnerEnds: a request waits for an owner during an election. Once this
// node has missed the owner for longer, the request ends, was not applied, and says that
// another node should be asked, long before its caller's deadline.
func TestRequestWithoutAnOwnerEnds(t *testing.T) {
	for _, mutates := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			begin := time.Now()
			const election = 2 * time.Second
			v := VBucket{"v", ownedBy{owner: func() replica.Owner { return replica.Owner{Missed: time.Since(begin) >= election} }}}
			here := func(context.Context) (*int, error) { t.Error("it is served here"); return nil, nil }
			_, err := AtOwner(ctx, New(nil), v, Call{Mutates: mutates}, nil, here)
			if kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied {
				t.Errorf("mutates %v: %v", mutates, err)
			}
			if took := time.Since(begin); took < election || took > election+2*lastPause {
				t.Errorf("mutates %v: it ends after %v", mutates, took)
			}
		})
	}
}
