package maintenance

import (
	"bytes"
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/task"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestContentHash(t *testing.T) {
	a, b := newRig(t), newRig(t)
	hash := func(r *rig) *serverpb.ContentHashResponse {
		t.Helper()
		resp, err := r.Ops.GetContentHash(t.Context(), &serverpb.ContentHashRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for _, r := range []*rig{a, b} {
		r.MustPut("k", "v")
		r.MustPut("k2", "v", mastertest.Epoch+10)
	}
	ha, hb := hash(a), hash(b)
	if !bytes.Equal(ha.GetHash(), hb.GetHash()) || len(ha.GetHash()) != 32 || ha.GetIndex() != 2 || ha.GetKeys() != 2 {
		t.Errorf("%v, %v", ha, hb)
	}
	if ha.GetHistoryId() != a.Local.Status().Identity.History || ha.GetHistoryId() == hb.GetHistoryId() {
		t.Errorf("histories %s, %s", ha.GetHistoryId(), hb.GetHistoryId())
	}
	b.MustPut("k2", "v", mastertest.Epoch+11) // only the expiry differs
	if bytes.Equal(hash(b).GetHash(), ha.GetHash()) {
		t.Error("an expiry does not count")
	}
	_, err := a.Ops.GetContentHash(t.Context(), &serverpb.ContentHashRequest{VBucket: "x"})
	mastertest.WantStatus(t, err, codes.NotFound, `this node has no vBucket "x"; it has [default]`)
}

// slowView is a replica whose views take until a gate is opened.
type slowView struct {
	replica.Replica
	begun chan struct{}
	gate  chan struct{}
}

func (s slowView) View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error) {
	s.begun <- struct{}{}
	<-s.gate
	return s.Replica.View(ctx, opts)
}

// Content hashes read everything: one is made at a time, and few may wait.
func TestContentHashesAreBounded(t *testing.T) {
	r := newRig(t)
	slow := slowView{r.Local, make(chan struct{}, 100), make(chan struct{})}
	r.Keyspace.All()[0].Replica = slow
	errs := make(chan error, 100)
	for range 3 * maxHashes {
		go func() { errs <- second(r.Ops.GetContentHash(r.T.Context(), &serverpb.ContentHashRequest{})) }()
	}
	<-slow.begun
	for range 2 * maxHashes {
		mastertest.WantStatus(t, <-errs, codes.ResourceExhausted, "8 content hashes are requested already, which is the limit; retry when they are done")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := r.Ops.GetContentHash(ctx, &serverpb.ContentHashRequest{}); err == nil {
		t.Error("one more was made")
	}
	if n := len(slow.begun); n != 0 {
		t.Errorf("%d are made beside the first", n)
	}
	close(slow.gate)
	for range maxHashes {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestStatusShowsTasks: who looks sees a content hash that is being made, and one that waits.
func TestStatusShowsTasks(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	var tasks task.List
	node := New(r.Keyspace, NodeInfo{}, nil)
	node.ShowTasks(&tasks)
	slow := slowView{r.Local, make(chan struct{}, 2), make(chan struct{})}
	r.Keyspace.All()[0].Replica = slow
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			errs <- second(node.GetContentHash(t.Context(), &serverpb.ContentHashRequest{VBucket: "default"}))
		}()
	}
	<-slow.begun
	testkit.Eventually(t, "both show", func() bool {
		status, err := node.GetNodeStatus(t.Context(), nil)
		if err != nil || len(status.GetTasks()) != 2 {
			return false
		}
		for _, shown := range status.GetTasks() {
			if shown.GetKind() != "verify" || shown.GetSubject() != "default" {
				t.Errorf("%v", shown)
			}
		}
		return true
	})
	close(slow.gate)
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if status, err := node.GetNodeStatus(t.Context(), nil); err != nil || len(status.GetTasks()) != 0 {
		t.Errorf("%v, %v after the end", status.GetTasks(), err)
	}
}
