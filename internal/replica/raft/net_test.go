package raft

import (
	"context"
	"errors"
	"sync"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// network carries what the hosts of a test say to each other, without sockets, so that
// single messages can be lost, forged or looked at.
type network struct {
	mu    sync.Mutex
	hosts map[string]*networkEnd
	// alone are the addresses that are cut off.
	alone map[string]bool
	// sent, if there is one, is shown each message before it is lost or delivered.
	sent func(from, to string, m *raftpb.Message)
}

func newNetwork() *network {
	return &network{hosts: make(map[string]*networkEnd), alone: make(map[string]bool)}
}

// isolate has everything lost that a node sends or is sent, or ends that.
func (w *network) isolate(address string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alone[address] = cut
}

// watch shows each message to sent from now on.
func (w *network) watch(sent func(from, to string, m *raftpb.Message)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = sent
}

// deliver hands a node a message, whether or not it is cut off.
func (w *network) deliver(address string, m raftpb.Message) {
	w.mu.Lock()
	end := w.hosts[address]
	w.mu.Unlock()
	if end != nil {
		end.messages(raftpb.MessageBatch{Requests: []raftpb.Message{m}, DeploymentId: end.deployment, BinVer: raftio.TransportBinVersion})
	}
}

// Create implements config.TransportFactory.
func (w *network) Create(c config.NodeHostConfig, messages raftio.MessageHandler, chunks raftio.ChunkHandler) raftio.ITransport {
	return &networkEnd{net: w, address: c.RaftAddress, deployment: c.GetDeploymentID(), messages: messages, chunks: chunks}
}

// Validate implements config.TransportFactory.
func (w *network) Validate(address string) bool { return config.IsValidAddress(address) }

var errNoHost = errors.New("no host has the address in the test's network")

// to returns the other end, and whether it can be reached at present.
func (w *network) to(from, address string) (end *networkEnd, reached bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if end = w.hosts[address]; end == nil {
		return nil, false, errNoHost
	}
	return end, !w.alone[from] && !w.alone[address], nil
}

// networkEnd is one host's.
type networkEnd struct {
	net        *network
	address    string
	deployment uint64
	messages   raftio.MessageHandler
	chunks     raftio.ChunkHandler
	// delivering is held by those that call messages and chunks: Dragonboat clears what these
	// use once Close has returned.
	delivering sync.RWMutex
	closed     bool
}

func (e *networkEnd) Name() string { return "test network" }

func (e *networkEnd) Start() error { e.plug(e); return nil }

func (e *networkEnd) Close() error {
	e.plug(nil)
	e.delivering.Lock()
	defer e.delivering.Unlock()
	e.closed = true
	return nil
}

// deliver calls take unless the end is closed.
func (e *networkEnd) deliver(take func() error) error {
	e.delivering.RLock()
	defer e.delivering.RUnlock()
	if e.closed {
		return errNoHost
	}
	return take()
}

func (e *networkEnd) plug(end *networkEnd) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.net.hosts[e.address] = end
}

func (e *networkEnd) GetConnection(_ context.Context, to string) (raftio.IConnection, error) {
	_, _, err := e.net.to(e.address, to)
	return networkLine{e, to}, err
}

func (e *networkEnd) GetSnapshotConnection(_ context.Context, to string) (raftio.ISnapshotConnection, error) {
	_, _, err := e.net.to(e.address, to)
	return networkLine{e, to}, err
}

// networkLine is a connection.
type networkLine struct {
	from *networkEnd
	to   string
}

func (l networkLine) Close() {}

func (l networkLine) SendMessageBatch(sent raftpb.MessageBatch) error {
	other, reached, err := l.from.net.to(l.from.address, l.to)
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
	show := l.from.net.sent
	l.from.net.mu.Unlock()
	for i := range batch.Requests {
		if show != nil {
			show(l.from.address, l.to, &batch.Requests[i])
		}
	}
	if !reached {
		return nil
	}
	return other.deliver(func() error { other.messages(batch); return nil })
}

func (l networkLine) SendChunk(sent raftpb.Chunk) error {
	other, reached, err := l.from.net.to(l.from.address, l.to)
	if err != nil || !reached {
		return errors.Join(err, errNoHost)
	}
	raw, err := sent.Marshal()
	if err != nil {
		return err
	}
	var chunk raftpb.Chunk
	if err := chunk.Unmarshal(raw); err != nil {
		return err
	}
	return other.deliver(func() error {
		if !other.chunks(chunk) {
			return errNoHost
		}
		return nil
	})
}
