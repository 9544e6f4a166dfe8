package chaos

import (
	"context"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
)

// TestBatteryCanFail produces with a real cluster what must not happen to others,
// and sees it found: a stale read, by taking a sequential one of a follower that
// is cut off for linearizable; and a lost write, by claiming one that never was.
func TestBatteryCanFail(t *testing.T) {
	t.Parallel()
	c := newNetworkedCluster(t, 3)
	h := newHistory()
	l := &load{t: t, c: c, history: h, keys: newKeys(), ledger: make(map[string]written)}
	leader := c.leader()
	follower := c.others(leader)[0]
	put := func(v string) uint64 {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		call := h.now()
		resp, err := leader.kv().Put(ctx, &serverpb.PutRequest{Key: []byte("k"), Value: []byte(v)})
		if err != nil {
			t.Fatal(err)
		}
		h.add(0, input{kind: opPut, key: "k", value: v}, call, output{}, h.now())
		return resp.GetIndex()
	}
	get := func(level serverpb.ReadConsistency, index uint64) (*serverpb.GetResponse, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return follower.kv().Get(ctx, &serverpb.GetRequest{Key: []byte("k"), ReadConsistency: level, MinIndex: index})
	}
	if resp, err := get(serverpb.ReadConsistency_SEQUENTIAL, put("old")); err != nil || string(resp.GetValue()) != "old" {
		t.Fatalf("a follower that has applied the write: %v, %v", resp, err)
	}
	follower.cut(allRules(follower))
	l.ledger["k"] = written{value: "new", index: put("new")}
	if result, _ := h.check(checkLimit); result != porcupine.Ok {
		t.Fatalf("before the stale read: %s", result)
	}
	if _, err := get(serverpb.ReadConsistency_LINEARIZABLE, 0); status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a linearizable read of a follower that is cut off: %v", err)
	}
	call := h.now()
	resp, err := get(serverpb.ReadConsistency_SEQUENTIAL, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.add(1, input{kind: opGet, key: "k"}, call, output{value: string(resp.GetValue())}, h.now())
	if result, _ := h.check(checkLimit); result != porcupine.Illegal {
		t.Errorf("with a read of %q after %q was written: %s", resp.GetValue(), "new", result)
	}
	follower.heal()
	follower.rejoin()
	if lost := l.lost(); lost != 0 {
		t.Errorf("%d lost of what is there", lost)
	}
	l.ledger["never"] = written{value: "v", index: 1}
	if lost := l.lost(); lost != 1 {
		t.Errorf("%d lost, with one that never was", lost)
	}
}
