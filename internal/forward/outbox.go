package forward

import (
	"runtime"
	"sync"

	"google.golang.org/grpc/mem"
)

// outbox collects what is to be sent: while a message is on its way, the next one fills.
type outbox struct {
	mu sync.Mutex
	// message is what was collected.
	message []byte
	// ended: nothing more is sent.
	ended bool
	// ready is signalled when something was collected, and when it has ended.
	ready chan struct{}
	// room is signalled when the message was taken to be sent.
	room sync.Cond
}

func newOutbox() *outbox {
	o := &outbox{ready: make(chan struct{}, 1)}
	o.room.L = &o.mu
	return o
}

// wake lets the sender look.
func (o *outbox) wake() {
	select {
	case o.ready <- struct{}{}:
	default: // it will
	}
}

// gather lets the goroutines that are about to add something do so first: a message with
// many calls costs hardly more than one with a single call. If nothing else runs it takes no
// time.
func (o *outbox) gather() { runtime.Gosched() }

// take returns what was collected; nil if there is nothing.
func (o *outbox) take() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.message
	o.message = nil
	o.room.Broadcast()
	if len(out) == 0 {
		return nil
	}
	return out
}

// end ends the outbox.
func (o *outbox) end() {
	o.mu.Lock()
	o.ended = true
	o.room.Broadcast()
	o.mu.Unlock()
	o.wake()
}

// begin returns the message to append to. The caller holds mu.
func (o *outbox) begin() []byte {
	if o.message == nil {
		o.message = (*batches.Get(0))[:0]
	}
	return o.message
}

// batches are the buffers of messages. Those that have grown large are not kept.
var batches mem.BufferPool = &batchPool{}

type batchPool struct{ pool sync.Pool }

const (
	firstBatch = 4 << 10
	largeBatch = 512 << 10
)

// Get implements mem.BufferPool.
func (p *batchPool) Get(n int) *[]byte {
	out, kept := p.pool.Get().(*[]byte)
	if !kept || cap(*out) < n {
		fresh := make([]byte, n, max(n, firstBatch))
		return &fresh
	}
	*out = (*out)[:n]
	return out
}

// Put implements mem.BufferPool.
func (p *batchPool) Put(b *[]byte) {
	if cap(*b) <= largeBatch {
		p.pool.Put(b)
	}
}
