package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deployment = 7

// quick are the limits of most tests.
var quick = limits{
	connections: 64, perHost: 64,
	preface: testkit.Patience, idle: testkit.Patience, step: testkit.Patience, unheard: testkit.Patience,
	room: testkit.Patience, answer: testkit.Patience,
}

// node is one end, with what has come to it.
type node struct {
	*transport
	t    *testing.T
	addr string
	log  testkit.Log

	mu      sync.Mutex
	batches []raftpb.MessageBatch
	chunks  []raftpb.Chunk
	// onBatch and onChunk, if there are any, are called first.
	onBatch func(raftpb.MessageBatch)
	onChunk func(raftpb.Chunk) bool
}

func (n *node) takeBatch(b raftpb.MessageBatch) {
	if n.onBatch != nil {
		n.onBatch(b)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.batches = append(n.batches, b)
}

func (n *node) takeChunk(c raftpb.Chunk) bool {
	n.mu.Lock()
	n.chunks = append(n.chunks, c)
	n.mu.Unlock()
	return n.onChunk == nil || n.onChunk(c)
}

func (n *node) received() []raftpb.MessageBatch {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]raftpb.MessageBatch(nil), n.batches...)
}

func (n *node) receivedChunks() []raftpb.Chunk {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]raftpb.Chunk(nil), n.chunks...)
}

// start makes a node that listens.
func start(t *testing.T, changes ...func(*node, *Options)) *node {
	t.Helper()
	n := &node{t: t, addr: testkit.Address(t)}
	opts := Options{Log: n.log.Logger(slog.LevelDebug), limits: quick}
	for _, change := range changes {
		change(n, &opts)
	}
	n.listen(opts)
	return n
}

func (n *node) listen(opts Options) {
	n.t.Helper()
	c := config.NodeHostConfig{RaftAddress: n.addr, DeploymentID: deployment}
	n.transport = New(opts).Create(c, n.takeBatch, n.takeChunk).(*transport)
	if err := n.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := n.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			n.t.Error(err)
		}
	})
}

// connect opens a connection for messages that lasts for the test.
func (n *node) connect(ctx context.Context, to string) raftio.IConnection {
	n.t.Helper()
	c, err := n.GetConnection(ctx, to)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(c.Close)
	return c
}

// batch is one message with an entry of some bytes.
func batch(index uint64, size int) raftpb.MessageBatch {
	cmd := make([]byte, size)
	for i := range cmd {
		cmd[i] = byte(index + uint64(i))
	}
	return raftpb.MessageBatch{
		DeploymentId: deployment, BinVer: raftio.TransportBinVersion, SourceAddress: "10.0.0.1:1",
		Requests: []raftpb.Message{{
			Type: raftpb.Replicate, From: 1, To: 2, ShardID: 1, Commit: index, LogIndex: index,
			Entries: []raftpb.Entry{{Index: index + 1, Cmd: cmd}},
		}},
	}
}

// raw connects without a transport.
func (n *node) raw() net.Conn {
	n.t.Helper()
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		n.t.Fatal(err)
	}
	return c
}

// entered is a raw connection behind its preface.
func (n *node) entered(p purpose) net.Conn {
	n.t.Helper()
	c := n.raw()
	if err := introduce(c, preface{version, p, deployment}, testkit.Patience); err != nil {
		n.t.Fatal(err)
	}
	return c
}

// wantClosed fails unless the other end closes the connection.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(testkit.Patience))
	var p [64]byte
	for {
		_, err := c.Read(p[:])
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("the connection stays open")
		}
		if err != nil {
			return
		}
	}
}
