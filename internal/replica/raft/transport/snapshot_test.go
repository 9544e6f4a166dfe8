package transport

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/testkit"
)

// chunksOf are a streamed snapshot: some with data, and an empty last one.
func chunksOf(n int) (out []raftpb.Chunk) {
	for i := range uint64(n + 1) {
		c := raftpb.Chunk{
			ShardID: 1, ReplicaID: 2, From: 1, Index: 100, Term: 3, ChunkId: i, FileChunkId: i,
			BinVer: raftio.TransportBinVersion, DeploymentId: deployment, Filepath: "snapshot-0000000000000064.gbsnap",
		}
		if i == uint64(n) {
			c.ChunkCount, c.FileChunkCount = raftpb.LastChunkCount, raftpb.LastChunkCount
		} else {
			c.Data = make([]byte, 2<<20)
			c.ChunkSize = uint64(len(c.Data))
		}
		out = append(out, c)
	}
	return out
}

// send sends chunks to a node.
func send(t *testing.T, from *node, to string, chunks []raftpb.Chunk) error {
	t.Helper()
	line, err := from.GetSnapshotConnection(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	for _, c := range chunks {
		if err := line.SendChunk(c); err != nil {
			return err
		}
	}
	return nil
}

// desk decides about snapshots in a test.
type desk struct {
	offered atomic.Pointer[Snapshot]
	admit   func(ctx context.Context) error
	more    func(n int) error
	done    atomic.Int64 // 1 as a whole, -1 not
}

func (d *desk) Admit(ctx context.Context, s Snapshot) (Admission, error) {
	d.offered.Store(&s)
	if d.admit != nil {
		if err := d.admit(ctx); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *desk) More(n int) error {
	if d.more == nil {
		return nil
	}
	return d.more(n)
}

func (d *desk) Done(whole bool) {
	if whole {
		d.done.Store(1)
	} else {
		d.done.Store(-1)
	}
}

func with(d *desk) func(*node, *Options) {
	return func(_ *node, o *Options) { o.Snapshots = d }
}

func TestSnapshotIsOfferedAndTaken(t *testing.T) {
	d := &desk{}
	b := start(t, with(d))
	a := start(t, func(_ *node, o *Options) { o.Size = func(shard uint64) uint64 { return 1000 + shard } })
	chunks := chunksOf(5)
	if err := send(t, a, b.addr, chunks); err != nil {
		t.Fatal(err)
	}
	if got, want := *d.offered.Load(), (Snapshot{Shard: 1, Replica: 2, From: 1, Index: 100, Size: 1001}); got != want {
		t.Errorf("%+v was offered, want %+v", got, want)
	}
	got := b.receivedChunks()
	if len(got) != len(chunks) {
		t.Fatalf("%d chunks came of %d", len(got), len(chunks))
	}
	for i := range got {
		if got[i].ChunkId != uint64(i) || len(got[i].Data) != len(chunks[i].Data) {
			t.Errorf("chunk %d comes as %d, with %d bytes", i, got[i].ChunkId, len(got[i].Data))
		}
	}
	if d.done.Load() != 1 {
		t.Error("it is not said that the whole has come")
	}
}

// Nothing is written of a snapshot for which there is no room, and the sender hears why.
func TestRefusedSnapshotSendsNothing(t *testing.T) {
	b := start(t, with(&desk{admit: func(context.Context) error { return errors.New("it takes 5 MiB") }}))
	err := send(t, start(t), b.addr, chunksOf(5))
	if err == nil || !strings.Contains(err.Error(), "refused: it takes 5 MiB") {
		t.Errorf("the sender was told %v", err)
	}
	if got := b.receivedChunks(); len(got) != 0 {
		t.Errorf("%d chunks were handed over", len(got))
	}
}

// The offer waits for room, for a time.
func TestOfferWaitsForRoom(t *testing.T) {
	room := make(chan struct{})
	d := &desk{admit: func(ctx context.Context) error {
		select {
		case <-room:
			return nil
		case <-ctx.Done():
			return errors.New("still no room")
		}
	}}
	b := start(t, with(d), func(_ *node, o *Options) { o.limits.room = 50 * time.Millisecond })
	a := start(t)
	if err := send(t, a, b.addr, chunksOf(1)); err == nil || !strings.Contains(err.Error(), "still no room") {
		t.Errorf("the sender was told %v", err)
	}
	close(room)
	if err := send(t, a, b.addr, chunksOf(1)); err != nil {
		t.Error(err)
	}
}

// A snapshot that is given up in the middle is not kept by Dragonboat: it is given an end
// that does not fit.
func TestSnapshotIsGivenUpInTheMiddle(t *testing.T) {
	full := errors.New("the disk has become full")
	for name, give := range map[string]func(d *desk, n *node){
		"no more room": func(d *desk, _ *node) {
			taken := 0
			d.more = func(int) error {
				if taken++; taken == 3 {
					return full
				}
				return nil
			}
		},
		"a chunk that cannot be written": func(_ *desk, n *node) {
			n.onChunk = func(c raftpb.Chunk) bool {
				if c.ChunkId == 2 {
					panic(full)
				}
				return true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{}
			b := start(t, with(d), func(n *node, _ *Options) { give(d, n) })
			err := send(t, start(t), b.addr, chunksOf(20))
			if err == nil || !strings.Contains(err.Error(), full.Error()) {
				t.Errorf("the sender was told %v", err)
			}
			testkit.Eventually(t, "it is given up", func() bool { return d.done.Load() == -1 })
			got := b.receivedChunks()
			if last := got[len(got)-1]; !last.IsLastChunk() || len(last.Data) == 0 {
				t.Errorf("it ends with chunk %d of %d bytes", last.ChunkId, len(last.Data))
			}
			// The node serves on.
			if err := send(t, start(t), b.addr, chunksOf(1)); err != nil {
				t.Error(err)
			}
		})
	}
}

// So is one whose sender is gone.
func TestSenderGoesInTheMiddle(t *testing.T) {
	d := &desk{}
	b := start(t, with(d))
	if err := send(t, start(t), b.addr, chunksOf(5)[:3]); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is given up", func() bool { return d.done.Load() == -1 })
	if got := b.receivedChunks(); len(got) != 4 || got[3].ChunkId != 3 || !got[3].IsLastChunk() {
		t.Errorf("%d chunks were handed over", len(got))
	}
}

// So is one that only lacks its end, which is an empty chunk: another empty one would make
// it whole for Dragonboat, while the sender hears that it was not taken.
func TestSnapshotWithoutItsEndIsNotTaken(t *testing.T) {
	d := &desk{}
	b := start(t, with(d))
	if err := send(t, start(t), b.addr, chunksOf(5)[:5]); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is given up", func() bool { return d.done.Load() == -1 })
	got := b.receivedChunks()
	if last := got[len(got)-1]; !last.IsLastChunk() || len(last.Data) == 0 {
		t.Errorf("it ends with chunk %d of %d bytes", last.ChunkId, len(last.Data))
	}
}

// That the whole was sent does not mean that it was taken.
func TestLastChunkIsRefused(t *testing.T) {
	b := start(t, func(n *node, _ *Options) {
		n.onChunk = func(c raftpb.Chunk) bool { return !c.IsLastChunk() }
	})
	if err := send(t, start(t), b.addr, chunksOf(2)); err == nil || !strings.Contains(err.Error(), "not taken") {
		t.Errorf("the sender was told %v", err)
	}
}

// Chunks that do not go on with what was offered do not reach Dragonboat.
func TestStrangeChunksAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(c *raftpb.Chunk){
		"of another replica":    func(c *raftpb.Chunk) { c.ReplicaID++ },
		"of another index":      func(c *raftpb.Chunk) { c.Index++ },
		"of another deployment": func(c *raftpb.Chunk) { c.DeploymentId++ },
		"out of order":          func(c *raftpb.Chunk) { c.ChunkId++ },
		"of a strange file":     func(c *raftpb.Chunk) { c.Filepath = "/x/.." },
		"poison":                func(c *raftpb.Chunk) { c.ChunkCount = raftpb.PoisonChunkCount },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			chunks := chunksOf(3)
			spoil(&chunks[1])
			err := send(t, start(t), b.addr, chunks)
			if err == nil || !strings.Contains(err.Error(), "refused: ") {
				t.Errorf("the sender was told %v", err)
			}
			for _, c := range b.receivedChunks() {
				if c.ChunkId == 1 && !c.IsLastChunk() {
					t.Error("the chunk was handed over")
				}
			}
		})
	}
}

// Close ends an offer that waits for room, and the sender with it.
func TestCloseEndsAWaitForRoom(t *testing.T) {
	waits := make(chan struct{})
	b := start(t, with(&desk{admit: func(ctx context.Context) error {
		close(waits)
		<-ctx.Done()
		return ctx.Err()
	}}))
	sent := make(chan error, 1)
	a := start(t)
	go func() { sent <- send(t, a, b.addr, chunksOf(1)) }()
	<-waits
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err == nil {
		t.Error("it was sent")
	}
}

// A sender that is stopped does not wait for the receiver any longer.
func TestStopEndsASenderThatWaits(t *testing.T) {
	a := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	line, err := a.GetSnapshotConnection(ctx, deaf(t))
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	go cancel()
	if err := line.SendChunk(chunksOf(1)[0]); err == nil {
		t.Error("it was sent")
	}
}
