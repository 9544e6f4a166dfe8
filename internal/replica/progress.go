package replica

import (
	"context"
	"sync"

	"github.com/dkvdb/dkv/internal/kv"
)

// progress is the applied index, and whoever waits for it to grow.
type progress struct {
	mu      sync.Mutex
	applied kv.Index
	// grown is closed, and made anew, when applied grows; nil while nobody
	// waits.
	grown chan struct{}
}

func (p *progress) advance(applied kv.Index) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied = applied
	if p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
}

// wait returns once index is applied, or with the index that is applied when
// ctx ends or closing is closed.
func (p *progress) wait(ctx context.Context, closing <-chan struct{}, index kv.Index) (kv.Index, error) {
	for {
		applied, grown := p.watch()
		if applied >= index {
			return applied, nil
		}
		select {
		case <-grown:
		case <-closing:
			return applied, errQueueClosed
		case <-ctx.Done():
			return applied, ctx.Err()
		}
	}
}

// watch returns the applied index, and a channel that is closed at the next advance.
func (p *progress) watch() (kv.Index, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.grown == nil {
		p.grown = make(chan struct{})
	}
	return p.applied, p.grown
}
