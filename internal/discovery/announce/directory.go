package announce

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/signal"
)

// DirectoryOptions are what a Directory is made of.
type DirectoryOptions struct {
	// Addresses are the registry's nodes, host:port.
	Addresses []string
	// Filter chooses the rows; nil is all.
	Filter *serverpb.GetClusterInfoRequest
	// PollInterval is how often a registry that cannot be watched is asked; 0 is
	// DefaultInterval.
	PollInterval time.Duration
	// CachePath is the file that keeps the rows for the next start; "" keeps none.
	CachePath string
	// Pool reaches the registry; it stays the caller's.
	Pool *peer.Pool
	Log  *slog.Logger
}

// Row is a row of the registry. Its Info does not change; callers do not change it
// either.
type Row struct {
	Info *serverpb.RegionInfo
	// Stale tells that the row comes from an earlier run of the node, and that the
	// registry has not been heard since.
	Stale bool
}

// Directory follows the registry's rows. It keeps the last known ones while the
// registry is away, on disk too. Its methods are safe for concurrent use.
type Directory struct {
	opts  DirectoryOptions
	nodes *nodes
	link  link
	cache *cache

	mu sync.Mutex
	// rows are in the order of compare. They are shared with who asked for them: a
	// change makes a new slice.
	rows []Row
	live bool
	// changed is raised when rows or live have changed.
	changed signal.Signal
}

// OpenDirectory makes a directory with the rows that an earlier run has left. A cache
// that cannot be read is logged, and does without. Nothing is asked until Run runs.
func OpenDirectory(opts DirectoryOptions) *Directory {
	if opts.PollInterval <= 0 {
		opts.PollInterval = DefaultInterval
	}
	if opts.Filter == nil {
		opts.Filter = new(serverpb.GetClusterInfoRequest)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	d := &Directory{
		opts:  opts,
		nodes: newNodes(opts.Pool, opts.Addresses),
		link:  link{log: opts.Log, lost: "the registry cannot be asked; its last known rows count until it can", back: "the registry is followed again"},
		cache: &cache{path: opts.CachePath},
	}
	found, err := d.cache.load()
	if err != nil {
		opts.Log.Warn("the rows that the registry had before cannot be read; they are asked for anew", "err", err)
	}
	for _, info := range found {
		if d.wants(info) {
			d.rows = append(d.rows, Row{Info: info, Stale: true})
		}
	}
	slices.SortFunc(d.rows, func(a, b Row) int { return compare(a.Info, b.Info) })
	return d
}

// wants tells whether a row of the cache is one that the filter admits: another run
// may have had another filter.
func (d *Directory) wants(r *serverpb.RegionInfo) bool {
	f := d.opts.Filter
	admits := func(want, have string) bool { return want == "" || want == have }
	return admits(f.GetDcID(), r.GetDcID()) && admits(f.GetDatabase(), r.GetDatabase()) && admits(f.GetVBucket(), r.GetVBucket())
}

// Rows returns the rows in the order of database, vBucket and node address. The
// slice is shared: it is not to be changed.
func (d *Directory) Rows() []Row {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rows
}

// Changed returns a channel that is closed at the next change of what Rows or Live
// returns. To miss nothing, take it before them.
func (d *Directory) Changed() <-chan struct{} { return d.changed.Changed() }

// Live tells whether the rows are those of the registry now, as opposed to the last
// known ones.
func (d *Directory) Live() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.live
}

// announceChange tells who waits for a change.
func (d *Directory) announceChange() {
	d.changed.Raise()
	d.cache.changed.Raise()
}

// replace takes all rows anew. live tells that they are followed from here on.
func (d *Directory) replace(rows []Row, live bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	same := d.live == live && slices.EqualFunc(d.rows, rows, func(a, b Row) bool {
		return a.Stale == b.Stale && sameRow(a.Info, b.Info)
	})
	d.rows, d.live = rows, live
	if !same {
		d.announceChange()
	}
}

// sameRow leaves the numbers out that are new with each look.
func sameRow(a, b *serverpb.RegionInfo) bool {
	if a == b {
		return true
	}
	if compare(a, b) != 0 || a.GetStatus() != b.GetStatus() {
		return false
	}
	if a.GetChangeNumber() != b.GetChangeNumber() {
		a = proto.CloneOf(a)
		a.ChangeNumber = b.GetChangeNumber()
	}
	return proto.Equal(a, b)
}

// merge takes a change.
func (d *Directory) merge(m *serverpb.ClusterInfoChange) {
	deltas := deltasOf(m)
	if len(deltas) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows = overlay(d.rows, deltas)
	d.announceChange()
}

// lose notes that the rows are no longer followed.
func (d *Directory) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live {
		d.live = false
		d.announceChange()
	}
}

// infos are the rows to cache.
func (d *Directory) infos() []*serverpb.RegionInfo {
	rows := d.Rows()
	out := make([]*serverpb.RegionInfo, len(rows))
	for i, r := range rows {
		out[i] = r.Info
	}
	return out
}

// Run follows the registry until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { d.cache.run(ctx, d.infos, d.opts.Log) })
	d.follow(ctx)
	return nil
}
