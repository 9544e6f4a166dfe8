package replication

import (
	"math"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// TestAChangeFitsItsMessage: a change is no larger in its message than the limits of
// mutations assume.
func TestAChangeFitsItsMessage(t *testing.T) {
	// around is what a message has around its only change.
	const around = 256
	for name, c := range map[string]struct{ puts, key, value int }{
		"small":                   {1, 1, 0},
		"many":                    {64 << 10 / 36, 4, 0},
		"many of next to nothing": {64<<10/36 + 1, 4, 0},
		"few that are large":      {32, 4, 1020},
		"too large":               {32, 4, 1021},
	} {
		t.Run(name, func(t *testing.T) {
			ms := make([]kv.Mutation, c.puts)
			for i := range ms {
				ms[i] = kv.Mutation{Key: make([]byte, c.key), Value: make([]byte, c.value), ExpireTS: math.MaxUint64, Delete: rand.N(2) == 0}
			}
			stretch := &fsm.Changes{Newest: math.MaxUint64, Clock: math.MaxUint64, Changes: []kv.Change{{Index: math.MaxUint64, Clock: math.MaxUint64, Mutations: ms}}}
			if size, most := proto.Size(changesResponse(stretch, math.MaxInt64, true)), changelog.MessageBytes(ms)+around; size > most {
				t.Errorf("it comes to %d bytes, of %d", size, most)
			}
		})
	}
}

// TestMemoryOfACall: a call that may find much counts.
func TestMemoryOfACall(t *testing.T) {
	for name, c := range map[string]struct {
		req  any
		want int64
	}{
		"slaves":  {&serverpb.GetReplicasRequest{}, 0},
		"changes": {&serverpb.GetChangesRequest{MaxNumberOfChanges: 1}, 2 * changelog.PageBytes},
	} {
		if got := Memory("", c.req); got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, got, c.want)
		}
	}
}

// TestRequestsAreSentIfWanted: a watcher, or a slave of an older release, gets none.
func TestRequestsAreSentIfWanted(t *testing.T) {
	request := &kv.ChangeRequest{ID: kv.RequestID{Client: 7, Sequence: 2, Acked: 1}, Fingerprint: 9, Code: 1, Counter: -3}
	stretch := &fsm.Changes{Changes: []kv.Change{{Index: 1, Request: request}, {Index: 2}}}
	if got := changesResponse(stretch, 0, false).GetChanges(); got[0].GetRequest() != nil || got[1].GetRequest() != nil {
		t.Errorf("sent %v", got)
	}
	want := &serverpb.ChangeRequest{Client: 7, Sequence: 2, Acked: 1, Fingerprint: 9, Code: 1, Counter: -3}
	if got := changesResponse(stretch, 0, true).GetChanges(); !proto.Equal(got[0].GetRequest(), want) || got[1].GetRequest() != nil {
		t.Errorf("sent %v", got)
	}
}
