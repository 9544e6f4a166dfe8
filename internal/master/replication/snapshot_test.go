package replication

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

func (r *rig) hash() fsm.ContentHash {
	r.T.Helper()
	v, _, err := r.Local.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		r.T.Fatal(err)
	}
	defer v.Close()
	h, err := v.Hash(context.Background())
	if err != nil {
		r.T.Fatal(err)
	}
	return h
}

// large is a rig whose snapshot has many chunks.
func large(t *testing.T) *rig {
	const value = 200 << 10
	r := newRig(t, func(l *master.Limits) { l.Value, l.Batch = value, 2*value })
	for i := range 60 {
		r.MustPut(fmt.Sprintf("k%02d", i), strings.Repeat(fmt.Sprint(i%10), value-i), uint64(mastertest.Epoch+1000*(1+i%3)))
	}
	return r
}

// TestStreamSnapshot: a snapshot is the state at one number, whatever is written
// meanwhile; changes go on from the next one.
func TestStreamSnapshot(t *testing.T) {
	r := large(t)
	want := r.hash()
	x := newTransfer(t)
	if err := x.receive(r.Replication, 2); err != nil {
		t.Fatal(err)
	}
	r.MustPut("later", "1")
	r.MustPut("k00", "another")
	if err := x.receive(r.Replication, 1000); err != nil {
		t.Fatal(err)
	}
	if got := x.hash(); got != want {
		t.Errorf("%+v came, want %+v", got, want)
	}
	if x.chunks < 10 {
		t.Errorf("only %d chunks", x.chunks)
	}
	s := r.stream(testkit.Within(t, patience), &serverpb.StreamChangesRequest{FromChangeNumber: x.about.GetChangeNumber() + 1, HistoryId: x.about.GetHistoryId()})
	if s.until(want.Index + 2); s.keys["later"] != "1" || s.keys["k00"] != "another" || len(s.keys) != 2 {
		t.Errorf("the changes behind it are of %d keys", len(s.keys))
	}
	empty := newRig(t)
	x = newTransfer(t)
	if err := x.receive(empty.Replication, 10); err != nil {
		t.Fatal(err)
	}
	if got := x.hash(); got != empty.hash() || got.Keys != 0 {
		t.Errorf("of nothing %+v came", got)
	}
}

// TestSnapshotGoesOn cuts streams anywhere.
func TestSnapshotGoesOn(t *testing.T) {
	r := large(t)
	random := rand.New(rand.NewPCG(1, 1))
	for range 5 {
		want, x := r.hash(), newTransfer(t)
		for !x.done {
			if err := x.receive(r.Replication, random.IntN(4)); err != nil {
				t.Fatal(err)
			}
			if x.about != nil {
				r.MustPut("other", fmt.Sprint(x.chunks))
			}
		}
		if got := x.hash(); got != want {
			t.Errorf("after %d chunks %+v came, want %+v", x.chunks, got, want)
		}
	}
}

func TestStreamSnapshotRefuses(t *testing.T) {
	r := large(t)
	x := newTransfer(t)
	if err := x.receive(r.Replication, 1); err != nil {
		t.Fatal(err)
	}
	id := x.at.GetSnapshotId()
	for _, c := range []struct {
		req  *serverpb.StreamSnapshotRequest
		code codes.Code
		text string
	}{
		{&serverpb.StreamSnapshotRequest{VBucket: "other"}, codes.NotFound, `this node has no vBucket "other"; it has [default]`},
		{&serverpb.StreamSnapshotRequest{SnapshotId: "other"}, codes.NotFound,
			`this node has no snapshot "other" of vBucket default (any more); begin a new one`},
		{&serverpb.StreamSnapshotRequest{Position: x.at.GetPosition()}, codes.InvalidArgument,
			"a position is one of a snapshot; name it in snapshotId, or leave out the position to begin a new one"},
		{&serverpb.StreamSnapshotRequest{SnapshotId: id, Position: []byte("\xffx")}, codes.InvalidArgument,
			"ff78 is not a position in this snapshot; begin a new snapshot"},
		{&serverpb.StreamSnapshotRequest{SnapshotId: id, Position: []byte("\x00k")}, codes.InvalidArgument,
			"006b is not a position in this snapshot; begin a new snapshot"},
	} {
		y := newTransfer(t)
		y.at = c.req
		mastertest.WantStatus(t, y.receive(r.Replication, 5), c.code, c.text)
	}
	// None of that did it harm.
	if err := x.receive(r.Replication, 1000); err != nil || !x.done {
		t.Fatal(err)
	}
	// It is there even when all has been sent, and may be had from the beginning.
	y := newTransfer(t)
	y.at = &serverpb.StreamSnapshotRequest{SnapshotId: id}
	if err := y.receive(r.Replication, 1000); err != nil || y.chunks != x.chunks || y.hash() != x.hash() {
		t.Errorf("again: %d chunks, %v", y.chunks, err)
	}
	// A node that stops releases all of them, with readers and without.
	r.service.Close()
	mastertest.WantStatus(t, newTransfer(t).receive(r.Replication, 1), codes.Unavailable, "this node is shutting down; ask another one")
}

// TestSnapshotAcrossARestore: a snapshot that was begun before a restore is completed from the
// state it was begun with, and names that state's history.
func TestSnapshotAcrossARestore(t *testing.T) {
	r := large(t)
	want := r.hash()
	r.MustBackup("b1")
	x := newTransfer(t)
	if err := x.receive(r.Replication, 3); err != nil {
		t.Fatal(err)
	}
	r.MustRestore("b1")
	if err := x.receive(r.Replication, 1000); err != nil {
		t.Fatal(err)
	}
	if got := x.hash(); got != want {
		t.Errorf("%+v came, want %+v", got, want)
	}
	s := r.stream(testkit.Within(t, patience), &serverpb.StreamChangesRequest{FromChangeNumber: x.about.GetChangeNumber() + 1, HistoryId: x.about.GetHistoryId()})
	if err := s.fails(); status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
}

// TestStalledSnapshotEnds: a receiver that stops reading does not keep the state for
// as long as it likes. It can go on if it comes back soon.
func TestStalledSnapshotEnds(t *testing.T) {
	r := large(t)
	want := r.hash()
	x := newTransfer(t)
	conn, ended := mastertest.Impatient(t, &serverpb.DKVReplication_ServiceDesc, r.service)
	s := x.open(serverpb.NewDKVReplicationClient(conn))
	<-ended
	testkit.Eventually(t, "the stream has ended", func() bool { return r.service.snapshots.kept() == 1 })
	err := x.drain(s)
	if resume := mastertest.ResumeOf(t, err); resume[kv.ResumeSnapshot] != x.at.GetSnapshotId() || x.at.GetSnapshotId() == "" ||
		resume[kv.ResumePosition] != base64.StdEncoding.EncodeToString(x.at.GetPosition()) {
		t.Errorf("it is resumed with %v, and is at %v", resume, x.at)
	}
	if err := x.receive(r.Replication, 1000); err != nil {
		t.Fatal(err)
	}
	if got := x.hash(); got != want {
		t.Errorf("%+v came, want %+v", got, want)
	}
}

// sealedCopy is a replica whose state may not be copied.
type sealedCopy struct{ replica.Replica }

func (sealedCopy) Withheld() error { return kv.Errorf(kv.Unavailable, "sealed") }

// TestNoSnapshotOfASealedCopy: what is withheld from followers does not reach them by a snapshot.
func TestNoSnapshotOfASealedCopy(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	v := r.Keyspace.All()[0]
	v.Replica = sealedCopy{v.Replica}
	_, err := r.service.snapshot(t.Context(), v, new(serverpb.StreamSnapshotRequest))
	if kv.KindOf(err) != kv.Unavailable {
		t.Error(err)
	}
}

// For a receiver that has gone no chunk is read, even if it need not wait.
func TestNoChunkIsMadeForWhoHasGone(t *testing.T) {
	s := &Service{making: fair.New(1)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := s.makeChunk(ctx, &snapshot{}, nil, &serverpb.SnapshotChunk{}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	}
}
