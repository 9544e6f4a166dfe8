package state

import (
	"container/heap"
	"context"
	"sync"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/signal"
)

// progress is the applied index, and those that wait for it to grow. An advance wakes only
// those whose index it reaches: readers choose what they wait for, and many that wait for a
// distant index must not cost the advances before it.
type progress struct {
	mu      sync.Mutex
	applied kv.Index
	waiting waiters
	// grown is raised at each advance.
	grown signal.Signal
}

// waiter waits for an index.
type waiter struct {
	index kv.Index
	done  chan struct{} // closed when it is applied
	at    int           // in the heap; -1 when it is not there any more
}

// waiters is a heap with the least index first.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].index < w[j].index }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].at, w[j].at = i, j
}

// Push implements heap.Interface.
func (w *waiters) Push(x any) {
	added := x.(*waiter)
	added.at = len(*w)
	*w = append(*w, added)
}

// Pop implements heap.Interface.
func (w *waiters) Pop() any {
	last := len(*w) - 1
	out := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	out.at = -1
	return out
}

func (p *progress) advance(applied kv.Index) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied = applied
	for len(p.waiting) > 0 && p.waiting[0].index <= applied {
		close(heap.Pop(&p.waiting).(*waiter).done)
	}
	p.grown.Raise()
}

// wait returns once index is applied, or with the index that is applied when
// ctx ends or closing is closed.
func (p *progress) wait(ctx context.Context, closing <-chan struct{}, index kv.Index) (kv.Index, error) {
	p.mu.Lock()
	if p.applied >= index {
		defer p.mu.Unlock()
		return p.applied, nil
	}
	w := &waiter{index: index, done: make(chan struct{})}
	heap.Push(&p.waiting, w)
	p.mu.Unlock()
	var err error
	select {
	case <-w.done:
	case <-closing:
		err = replica.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.at < 0 {
		return max(p.applied, index), nil // was applied, whatever else has come since
	}
	heap.Remove(&p.waiting, w.at)
	return p.applied, err
}

// watch returns the applied index, and a channel that is closed at the next advance.
func (p *progress) watch() (kv.Index, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied, p.grown.Changed()
}
