package replicatest

import (
	"context"
	"sync"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Gate is a replica.Gate that lets everything pass, but for one answer that a test holds up.
type Gate struct {
	mu   sync.Mutex
	held *held
}

// held is an answer that is held up.
type held struct {
	asked   chan kv.Index
	release chan struct{}
	err     error
}

// NewGate makes a gate that holds up nothing.
func NewGate() *Gate { return &Gate{} }

// Hold holds up the next answer until Release, and then ends it with err. The channel gets the
// index that it is for.
func (g *Gate) Hold(err error) (asked <-chan kv.Index) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = &held{asked: make(chan kv.Index, 1), release: make(chan struct{}), err: err}
	return g.held.asked
}

// Release lets everything pass.
func (g *Gate) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.held.release)
	g.held = nil
}

// Admit implements replica.Gate.
func (g *Gate) Admit(context.Context, kv.Ack) error { return nil }

// Await implements replica.Gate.
func (g *Gate) Await(ctx context.Context, index kv.Index, _ kv.Ack) (kv.Ack, error) {
	g.mu.Lock()
	h := g.held
	g.mu.Unlock()
	if h == nil || index == replica.Shown {
		return kv.AckAsync, nil
	}
	h.asked <- index
	select {
	case <-h.release:
		return kv.AckAsync, h.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
