package discovery

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/discovery/record"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
)

// tenure identifies one ownership of the log. Two of the same node differ, since others
// may have written in between.
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

// reign is one period in which this node owns the registry. What is not stored, the times
// of heartbeats and the watchers, begins and ends with it.
type reign struct {
	table *table
	// ended is closed when it is over.
	ended chan struct{}
}

// beginReign reads all that is stored. Each live row has the time left that it had under
// the former owner: that no node has reported to this one yet does not mean that it is
// dead.
func beginReign(ctx context.Context, store Store, t times, l Limits, damaged func(error)) (*reign, error) {
	out := newTable(t, l)
	if err := loadRows(ctx, store, kv.Linearizable, out, damaged); err != nil {
		return nil, err
	}
	return &reign{table: out, ended: make(chan struct{})}, nil
}

// loadRows fills a table from the store. A damaged row is left out, since its node will send
// it again, and so is a damaged record, which lets no master answer.
func loadRows(ctx context.Context, store Store, level kv.ReadLevel, into *table, damaged func(error)) error {
	view, _, err := store.View(ctx, kv.ReadOptions{Level: level})
	if err != nil {
		return err
	}
	defer view.Close()
	now := time.Now()
	if err := followAll(view, into, now, damaged); err != nil {
		return err
	}
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

// followAll has a table follow the records that are stored.
func followAll(view replica.View, into *table, now time.Time, damaged func(error)) error {
	it := view.Iterate(storage.Prefix([]byte(record.Prefix)))
	defer it.Close()
	for it.Next() {
		p := it.Pair()
		r, err := record.Decode(p.Key, p.Value)
		if err != nil {
			damaged(err)
			continue
		}
		into.follow(r, now)
	}
	return it.Err()
}

var errReignOver = kv.Errorf(kv.NotOwner, "the registry has another owner now")

// run keeps the table up to date until ctx ends.
func (g *reign) run(ctx context.Context, store Store) {
	var wg sync.WaitGroup
	wg.Go(func() { g.table.write(ctx, store) })
	wg.Go(func() { g.table.watchExpiry(ctx) })
	<-ctx.Done()
	g.table.endWrites(errReignOver)
	close(g.ended)
	wg.Wait()
}

// update applies the heartbeats of a node, and returns when what they change is stored.
// Rejected rows are left out.
func (g *reign) update(ctx context.Context, u update) error {
	now := time.Now()
	if !ofNode(ctx) {
		if err := g.table.replacesMaster(u.rows); err != nil {
			return err
		}
		u.stamp = min(u.stamp, uint64(now.Unix())) // from the future, it would outdate the master's own
	}
	wait, refused := g.table.heartbeat(now, u.stamp, u.rows...)
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
