package succession

import (
	"context"
	"testing"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// copied is a slave's copy of one vBucket, at 7.
type copied struct{ role.Replica }

func (copied) AwaitApplied(context.Context, kv.Index) error { return nil }
func (copied) Status() replica.Status                       { return replica.Status{Applied: 7} }

// follower is a role with that copy, which may be a part of its masters' log.
type follower struct {
	role.Role
	agrees bool
}

func (f follower) VBuckets() []role.VBucket {
	return []role.VBucket{{Name: "default", Replica: copied{}}}
}
func (f follower) Agrees(string) bool { return f.agrees }

// A slave whose copy may be no part of its masters' log, as after a promotion that was given up, does
// not say that it has applied their changes: its index is that of others.
func TestOnlyACopyOfTheLogHasAppliedIt(t *testing.T) {
	s := serviceOf(nil)
	for _, agrees := range []bool{false, true} {
		s.role = follower{agrees: agrees}
		resp, err := s.AwaitApplied(t.Context(), &peerpb.AwaitAppliedRequest{Database: "db", VBucket: "default", Index: 7, WaitMillis: 1})
		if agrees != (err == nil) || agrees && resp.GetApplied() != 7 {
			t.Errorf("agrees %v: %v, %v", agrees, resp, err)
		}
	}
}
