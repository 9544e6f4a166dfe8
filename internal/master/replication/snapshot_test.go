package replication

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// transfer is a snapshot on its way.
type transfer struct {
	t      *testing.T
	engine storage.Engine
	load   *fsm.Loader
	about  *serverpb.SnapshotChunk // the first chunk, without data
	at     *serverpb.StreamSnapshotRequest
	chunks int
	done   bool
}

func newTransfer(t *testing.T) *transfer {
	t.Helper()
	e, err := memory.Open(memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &transfer{t: t, engine: e, load: fsm.NewLoader(e), at: &serverpb.StreamSnapshotRequest{}}
}

// receive takes up to most chunks of a new stream that goes on where the transfer
// is, and then cuts it off.
func (x *transfer) receive(c serverpb.DKVReplicationClient, most int) error {
	x.t.Helper()
	ctx, cut := context.WithTimeout(context.Background(), 30*time.Second)
	defer cut()
	s, err := c.StreamSnapshot(ctx, x.at)
	if err != nil {
		x.t.Fatal(err)
	}
	for n := range most {
		chunk, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF):
			if !x.done {
				x.t.Fatal("the stream ends before the last chunk")
			}
			return nil
		case err != nil:
			return err
		}
		x.take(chunk, n == 0)
	}
	return nil
}

func (x *transfer) take(c *serverpb.SnapshotChunk, first bool) {
	x.t.Helper()
	if x.done {
		x.t.Fatal("a chunk behind the last")
	}
	if sum := crc32.Checksum(c.GetData(), crc32.MakeTable(crc32.Castagnoli)); sum != c.GetChecksum() {
		x.t.Fatalf("checksum %x, want %x", c.GetChecksum(), sum)
	}
	if len(c.GetData()) > 1<<20 {
		x.t.Errorf("a chunk of %d bytes", len(c.GetData()))
	}
	if first {
		about := proto.CloneOf(c)
		about.Data, about.Checksum, about.Position = nil, 0, nil
		if x.about == nil {
			x.about = about
		}
		if !proto.Equal(about, x.about) {
			x.t.Fatalf("the stream goes on with %v, it was %v", about, x.about)
		}
	}
	if err := x.load.Add(c.GetData()); err != nil {
		x.t.Fatal(err)
	}
	x.chunks++
	x.at.SnapshotId, x.at.Position, x.done = c.GetSnapshotId(), c.GetPosition(), len(c.GetPosition()) == 0
}

// hash finishes the load and returns the fingerprint of what came.
func (x *transfer) hash() fsm.ContentHash {
	x.t.Helper()
	if !x.done {
		x.t.Fatal("the transfer is not complete")
	}
	if err := x.load.Finish(); err != nil {
		x.t.Fatal(err)
	}
	m, err := fsm.New(x.engine)
	if err != nil {
		x.t.Fatal(err)
	}
	defer m.Close()
	v, err := m.View()
	if err != nil {
		x.t.Fatal(err)
	}
	defer v.Close()
	if id := v.Identity(); v.Index() != x.about.GetChangeNumber() || id.History != x.about.GetHistoryId() || id.Cluster != x.about.GetClusterId() {
		x.t.Errorf("%+v at %d, announced as %v", id, v.Index(), x.about)
	}
	h, err := v.Hash(context.Background())
	if err != nil {
		x.t.Fatal(err)
	}
	return h
}

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
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
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
	// A node that stops lets go of all, which wait for somebody or not.
	r.service.Close()
	mastertest.WantStatus(t, newTransfer(t).receive(r.Replication, 1), codes.Unavailable, "this node is shutting down; ask another one")
}

// TestSnapshotAcrossARestore: what was begun goes on from the state that it was
// begun with, and says which history that is of.
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

// pin is a view that tells when it is closed.
type pin struct {
	replica.View
	closed atomic.Int32
}

func (p *pin) Close() { p.closed.Add(1) }

func wantClosed(t *testing.T, pins []*pin, want ...int32) {
	t.Helper()
	for i, p := range pins {
		if got := p.closed.Load(); got != want[i] {
			t.Errorf("snapshot %d was closed %d times, want %d", i, got, want[i])
		}
	}
}

// TestKeptSnapshots: a few that wait are kept, for a while, and none for longer than
// it is needed.
func TestKeptSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSnapshots()
		var pins []*pin
		begin := func() *snapshot {
			pins = append(pins, &pin{})
			snap, err := s.begin("v", pins[len(pins)-1], 0)
			if err != nil {
				t.Fatal(err)
			}
			return snap
		}
		broken := begin()
		s.leave(broken)
		time.Sleep(snapshotPatience - time.Second)
		for range 2 { // two streams of one snapshot
			if again, err := s.resume(broken.id, "v"); err != nil || again != broken {
				t.Fatal(err)
			}
		}
		if _, err := s.resume(broken.id, "w"); kv.KindOf(err) != kv.NotFound {
			t.Error(err)
		}
		time.Sleep(2 * snapshotPatience)
		s.leave(broken)
		time.Sleep(2 * snapshotPatience)
		wantClosed(t, pins, 0)
		s.leave(broken)
		time.Sleep(snapshotPatience - time.Second)
		wantClosed(t, pins, 0)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantClosed(t, pins, 1)
		if _, err := s.resume(broken.id, "v"); kv.KindOf(err) != kv.NotFound {
			t.Error(err)
		}

		pins = nil
		var waiting []*snapshot
		for range maxKeptSnapshots + 2 {
			waiting = append(waiting, begin())
		}
		for _, snap := range waiting {
			s.leave(snap)
		}
		wantClosed(t, pins, 1, 1, 0, 0, 0, 0)
		read := begin()
		s.close()
		s.close()
		wantClosed(t, pins, 1, 1, 1, 1, 1, 1, 0)
		s.leave(read)
		wantClosed(t, pins, 1, 1, 1, 1, 1, 1, 1)
		late := &pin{}
		if _, err := s.begin("v", late, 0); kv.KindOf(err) != kv.Unavailable || late.closed.Load() != 1 {
			t.Errorf("%v, closed %d times", err, late.closed.Load())
		}
	})
}

// kept counts the snapshots that wait for being gone on with.
func (s *snapshots) kept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// open begins a snapshot and takes its first chunk.
func (x *transfer) open(c serverpb.DKVReplicationClient) grpc.ServerStreamingClient[serverpb.SnapshotChunk] {
	x.t.Helper()
	s, err := c.StreamSnapshot(testkit.Within(x.t, time.Minute), x.at)
	if err != nil {
		x.t.Fatal(err)
	}
	chunk, err := s.Recv()
	if err != nil {
		x.t.Fatal(err)
	}
	x.take(chunk, true)
	return s
}

// drain takes what is on the line, and returns what the stream ends with.
func (x *transfer) drain(s grpc.ServerStreamingClient[serverpb.SnapshotChunk]) error {
	x.t.Helper()
	for {
		chunk, err := s.Recv()
		if err != nil {
			return err
		}
		x.take(chunk, false)
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
		t.Errorf("it goes on with %v, and is at %v", resume, x.at)
	}
	if err := x.receive(r.Replication, 1000); err != nil {
		t.Fatal(err)
	}
	if got := x.hash(); got != want {
		t.Errorf("%+v came, want %+v", got, want)
	}
}

// TestEvictedSnapshots: what keeps storage from being opened anew is given up at once,
// whether it is read or not; another vBucket's is not.
func TestEvictedSnapshots(t *testing.T) {
	r := large(t)
	stalled, kept := newTransfer(t), newTransfer(t)
	s := stalled.open(r.Replication)
	if err := kept.receive(r.Replication, 1); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "one is kept", func() bool { return r.service.snapshots.kept() == 1 })
	other := &pin{}
	elsewhere, err := r.service.snapshots.begin("other", other, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.service.snapshots.leave(elsewhere)
	r.service.snapshots.evict("default")
	if err := stalled.drain(s); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "begin a new one") {
		t.Errorf("a stream ends with %v", err)
	}
	for _, x := range []*transfer{stalled, kept} {
		if err := x.receive(r.Replication, 1); status.Code(err) != codes.NotFound {
			t.Errorf("it goes on: %v", err)
		}
	}
	if err := r.Local.Close(); err != nil { // waits for whoever reads
		t.Error(err)
	}
	if other.closed.Load() != 0 {
		t.Error("another vBucket's was given up")
	}
}

// reopening is a replica that opens its storage anew.
type reopening struct {
	replica.Replica
	heldUp func()
}

func (r *reopening) WhenHeldUp(f func()) { r.heldUp = f }

// TestSnapshotsMakeWay: a replica that needs its storage to itself has the snapshots
// given up.
func TestSnapshotsMakeWay(t *testing.T) {
	r := &reopening{}
	s := New(route.NewKeyspace(route.VBucket{Name: "v", Replica: r}), nil)
	defer s.Close()
	view := &pin{}
	snap, err := s.snapshots.begin("v", view, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.snapshots.leave(snap)
	r.heldUp()
	r.heldUp()
	wantClosed(t, []*pin{view}, 1)
}
