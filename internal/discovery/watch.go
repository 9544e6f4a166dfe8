package discovery

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/signal"
)

const (
	// maxWatchChunk bounds one message of a watch, in bytes.
	maxWatchChunk = 1 << 20
	// signOfLife is how often a watch sends an empty message if there is nothing new, so
	// that the client knows that the watch still works.
	signOfLife = 2 * time.Second
)

// watcher is one client that follows the rows of a filter. Changes that it has not
// fetched are kept once for each row, so that a slow client costs no more than that and
// delays no other.
type watcher struct {
	filter filter
	// pending is the newest change of each row, under table.mu; a row that is
	// INACTIVE is gone.
	pending map[rowKey]*serverpb.RegionInfo
	// lost reports whether the watcher was so slow that changes were dropped, under
	// table.mu: it has to begin again.
	lost bool
	// changed is raised when pending or lost have changed.
	changed signal.Signal
}

const (
	// maxPending bounds the changes that one watcher has not fetched, and
	// maxAllPending those of all watchers; beyond it, no watcher may have more than
	// fewPending.
	maxPending    = 1 << 14
	maxAllPending = 1 << 20
	fewPending    = 1 << 8
)

// watch starts to follow the rows of a filter. It returns the current rows; the watcher
// gets the changes after them.
func (t *table) watch(f filter) (*watcher, selection) {
	w := &watcher{filter: f, pending: make(map[rowKey]*serverpb.RegionInfo)}
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.watchers[f.databaseName()]
	if of == nil {
		of = make(map[*watcher]struct{})
		t.watchers[f.databaseName()] = of
	}
	of[w] = struct{}{}
	return w, t.selectRows(f)
}

func (t *table) unwatch(w *watcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending -= len(w.pending)
	name := w.filter.databaseName()
	if delete(t.watchers[name], w); len(t.watchers[name]) == 0 {
		delete(t.watchers, name)
	}
}

func (t *table) countWatchers() (n int) {
	for _, of := range t.watchers {
		n += len(of)
	}
	return n
}

// publish passes a row's change to its watchers.
func (t *table) publish(r *row) {
	for _, name := range [...]string{"", r.key.database} {
		for w := range t.watchers[name] {
			if w.filter.matches(r.info) {
				t.tell(w, r)
			}
		}
	}
}

func (t *table) tell(w *watcher, r *row) {
	if w.lost {
		return
	}
	before := len(w.pending)
	w.pending[r.key] = r.info
	t.pending += len(w.pending) - before
	if n := len(w.pending); n > maxPending || n > fewPending && t.pending > maxAllPending {
		t.pending -= n
		w.pending, w.lost = nil, true
	}
	w.changed.Raise()
}

var errTooSlow = kv.Errorf(kv.Unavailable, "the watch did not keep up with the registry's changes; watch again")

// fetch returns the pending changes, ordered by key, and clears them. Its error is
// errTooSlow.
func (t *table) fetch(w *watcher) (rows, gone []*serverpb.RegionInfo, err error) {
	t.mu.Lock()
	pending, lost := w.pending, w.lost
	t.pending -= len(pending)
	w.pending = make(map[rowKey]*serverpb.RegionInfo)
	t.mu.Unlock()
	if lost {
		return nil, nil, errTooSlow
	}
	for key, info := range pending {
		if info.GetStatus() != serverpb.RegionStatus_INACTIVE {
			rows = append(rows, info)
			continue
		}
		gone = append(gone, &serverpb.RegionInfo{
			DcID: info.GetDcID(), Database: key.database, VBucket: key.vBucket, NodeAddress: key.node,
		})
	}
	sortRows(rows)
	sortRows(gone)
	return rows, gone, nil
}

func sortRows(rows []*serverpb.RegionInfo) {
	slices.SortFunc(rows, func(a, b *serverpb.RegionInfo) int { return keyOf(a).compare(keyOf(b)) })
}

// follow sends the rows of a filter, and then their changes, until the client leaves or
// this node no longer owns the registry.
func (g *reign) follow(f filter, stream grpc.ServerStreamingServer[serverpb.ClusterInfoChange]) error {
	w, rows := g.table.watch(f)
	defer g.table.unwatch(w)
	if err := sendRows(stream, rows.sorted()); err != nil {
		return err
	}
	if err := stream.Send(&serverpb.ClusterInfoChange{Complete: true}); err != nil {
		return err
	}
	alive := time.NewTicker(signOfLife)
	defer alive.Stop()
	changed := w.changed.Changed()
	if err := sendChanges(stream, g.table, w); err != nil { // those since watch
		return err
	}
	for {
		var err error
		select {
		case <-changed:
			changed = w.changed.Changed()
			alive.Reset(signOfLife)
			err = sendChanges(stream, g.table, w)
		case <-alive.C:
			err = stream.Send(&serverpb.ClusterInfoChange{})
		case <-g.ended:
			return errChangedHands
		case <-stream.Context().Done():
			return kv.Errorf(kv.Unavailable, "the watch ends: %w", context.Cause(stream.Context()))
		}
		if err != nil {
			return err
		}
	}
}

var errChangedHands = kv.Errorf(kv.Unavailable, "the registry's owner is changing; watch again, at any of its nodes")

func sendChanges(stream grpc.ServerStreamingServer[serverpb.ClusterInfoChange], t *table, w *watcher) error {
	rows, gone, err := t.fetch(w)
	if err != nil {
		return err
	}
	if err := sendRows(stream, rows); err != nil {
		return err
	}
	return inChunks(gone, func(part []*serverpb.RegionInfo) error {
		return stream.Send(&serverpb.ClusterInfoChange{Gone: part})
	})
}

func sendRows(stream grpc.ServerStreamingServer[serverpb.ClusterInfoChange], rows []*serverpb.RegionInfo) error {
	return inChunks(rows, func(part []*serverpb.RegionInfo) error {
		return stream.Send(&serverpb.ClusterInfoChange{Rows: part})
	})
}

// inChunks sends rows in parts of at most maxWatchChunk bytes, or of one row.
func inChunks(rows []*serverpb.RegionInfo, send func([]*serverpb.RegionInfo) error) error {
	for len(rows) > 0 {
		n, size := 0, 0
		for n < len(rows) {
			const framing = 4 // around each row
			size += proto.Size(rows[n]) + framing
			if n > 0 && size > maxWatchChunk {
				break
			}
			n++
		}
		if err := send(rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}
