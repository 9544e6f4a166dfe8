package discovery

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// tenure tells one ownership of the log from the next, also where the same node has
// both: in between, others may have written.
type tenure struct {
	self    bool
	term    uint64
	history string
}

func tenureOf(s Store) tenure {
	if !s.Owner().Self {
		return tenure{}
	}
	st := s.Status()
	return tenure{self: true, term: st.Term, history: st.Identity.History}
}

// reign is the time for which this node owns the registry. What is not stored, who
// was heard when and who watches, begins and ends with it.
type reign struct {
	table *table
	// ended is closed when it is over.
	ended chan struct{}
}

// beginReign reads all that is stored. Each live row gets the time to be heard from
// now on that it had left: that nobody reported to this node yet says nothing about who
// is alive.
func beginReign(ctx context.Context, store Store, t times, l Limits, damaged func(error)) (*reign, error) {
	out := newTable(t, l)
	if err := loadRows(ctx, store, kv.Linearizable, out, damaged); err != nil {
		return nil, err
	}
	return &reign{table: out, ended: make(chan struct{})}, nil
}

// loadRows fills a table with what is stored. A row that is damaged is left out: its
// node will send it again.
func loadRows(ctx context.Context, store Store, level kv.ReadLevel, into *table, damaged func(error)) error {
	view, _, err := store.View(ctx, kv.ReadOptions{Level: level})
	if err != nil {
		return err
	}
	defer view.Close()
	now := time.Now()
	it := view.Iterate(storage.Prefix([]byte(rowPrefix)))
	defer it.Close()
	for it.Next() {
		p := it.Pair()
		info, err := decodeRow(p.Key, p.Value)
		if err != nil {
			damaged(err)
			continue
		}
		into.load(info, now)
	}
	if err := it.Err(); err != nil {
		return err
	}
	into.mu.Lock()
	defer into.mu.Unlock()
	into.loaded(now)
	return nil
}

var errReignOver = kv.Errorf(kv.NotOwner, "the registry has another owner by now")

// run keeps the table true until ctx ends.
func (g *reign) run(ctx context.Context, store Store) {
	var wg sync.WaitGroup
	wg.Go(func() { g.table.write(ctx, store) })
	wg.Go(func() { g.table.watchExpiry(ctx) })
	<-ctx.Done()
	g.table.endWrites(errReignOver)
	close(g.ended)
	wg.Wait()
}

// update takes the heartbeats of a node, and returns when what they change is
// stored. Rows that are refused are left out.
func (g *reign) update(ctx context.Context, u update) error {
	wait, refused := g.table.heartbeat(time.Now(), u.stamp, u.rows...)
	if err := await(ctx, wait); err != nil {
		return err
	}
	return refused
}

// await waits until a batch is stored; nil is nothing to wait for.
func await(ctx context.Context, b *batch) error {
	if b == nil {
		return nil
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("the row was being stored: %w", context.Cause(ctx)))
	}
}
