package replica

import (
	"context"
	"errors"
	"sync"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// network carries what the hosts of a test say to each other, without sockets, so that
// single messages can be lost or looked at.
type network struct {
	mu    sync.Mutex
	hosts map[string]*networkEnd
	// alone are the addresses that are cut off.
	alone map[string]bool
	// pass, if there is one, reports whether a message is delivered.
	pass func(from, to string, m *raftpb.Message) bool
}

func newNetwork() *network {
	return &network{hosts: make(map[string]*networkEnd), alone: make(map[string]bool)}
}

// isolate cuts a node off from all others, or connects it again.
func (w *network) isolate(address string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alone[address] = cut
}

// filter has pass decide about each message; nil delivers all.
func (w *network) filter(pass func(from, to string, m *raftpb.Message) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass = pass
}

// Create implements config.TransportFactory.
func (w *network) Create(c config.NodeHostConfig, messages raftio.MessageHandler, chunks raftio.ChunkHandler) raftio.ITransport {
	return &networkEnd{net: w, address: c.RaftAddress, messages: messages, chunks: chunks}
}

// Validate implements config.TransportFactory.
func (w *network) Validate(address string) bool { return config.IsValidAddress(address) }

var errCut = errors.New("the test's network does not connect them")

// to returns the other end, if there is a way.
func (w *network) to(from, address string) (*networkEnd, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := w.hosts[address]
	if end == nil || w.alone[from] || w.alone[address] {
		return nil, errCut
	}
	return end, nil
}

// networkEnd is one host's.
type networkEnd struct {
	net      *network
	address  string
	messages raftio.MessageHandler
	chunks   raftio.ChunkHandler
}

func (e *networkEnd) Name() string { return "test network" }

func (e *networkEnd) Start() error { e.plug(e); return nil }

func (e *networkEnd) Close() error { e.plug(nil); return nil }

func (e *networkEnd) plug(end *networkEnd) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.net.hosts[e.address] = end
}

func (e *networkEnd) GetConnection(_ context.Context, to string) (raftio.IConnection, error) {
	_, err := e.net.to(e.address, to)
	return networkLine{e, to}, err
}

func (e *networkEnd) GetSnapshotConnection(_ context.Context, to string) (raftio.ISnapshotConnection, error) {
	_, err := e.net.to(e.address, to)
	return networkLine{e, to}, err
}

// networkLine is a connection.
type networkLine struct {
	from *networkEnd
	to   string
}

func (l networkLine) Close() {}

func (l networkLine) SendMessageBatch(sent raftpb.MessageBatch) error {
	other, err := l.from.net.to(l.from.address, l.to)
	if err != nil {
		return err
	}
	// The hosts of a test must not share what they hold in memory.
	raw, err := sent.Marshal()
	if err != nil {
		return err
	}
	var batch raftpb.MessageBatch
	if err := batch.Unmarshal(raw); err != nil {
		return err
	}
	l.from.net.mu.Lock()
	pass := l.from.net.pass
	l.from.net.mu.Unlock()
	if pass != nil {
		kept := batch.Requests[:0]
		for i := range batch.Requests {
			if pass(l.from.address, l.to, &batch.Requests[i]) {
				kept = append(kept, batch.Requests[i])
			}
		}
		batch.Requests = kept
	}
	other.messages(batch)
	return nil
}

func (l networkLine) SendChunk(sent raftpb.Chunk) error {
	other, err := l.from.net.to(l.from.address, l.to)
	if err != nil {
		return err
	}
	raw, err := sent.Marshal()
	if err != nil {
		return err
	}
	var chunk raftpb.Chunk
	if err := chunk.Unmarshal(raw); err != nil {
		return err
	}
	if !other.chunks(chunk) {
		return errCut
	}
	return nil
}
