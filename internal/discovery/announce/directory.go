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

// DirectoryOptions configure a Directory.
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

// Directory follows the registry's rows. It keeps the last known ones, in a file too,
// while the registry cannot be reached. Its methods are safe for concurrent use.
type Directory struct {
	opts  DirectoryOptions
	nodes *nodes
	link  link
	cache *cache

	mu sync.Mutex
	// rows are in the order of compare. They are shared with callers: a change makes a
	// new slice.
	rows []*serverpb.RegionInfo
	live bool
	// followed reports whether rows have been live in this run.
	followed bool
	// changed is raised when rows or live have changed.
	changed signal.Signal
}

// OpenDirectory returns a directory with the rows in the cache. A cache that cannot be
// read is logged and ignored. The registry is asked once Run is called.
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
		link:  link{log: opts.Log, lost: "the registry cannot be reached; its last known rows are used until it can", back: "the registry is followed again"},
		cache: &cache{path: opts.CachePath},
	}
	found, err := d.cache.load()
	if err != nil {
		opts.Log.Warn("the cached rows of the registry cannot be read; the registry is asked for them", "error", err)
	}
	for _, info := range found {
		if d.wants(info) {
			d.rows = append(d.rows, info)
		}
	}
	slices.SortFunc(d.rows, compare)
	return d
}

// wants reports whether the filter admits a row of the cache: an earlier run may have had
// another filter.
func (d *Directory) wants(r *serverpb.RegionInfo) bool {
	f := d.opts.Filter
	admits := func(want, have string) bool { return want == "" || want == have }
	return admits(f.GetDcID(), r.GetDcID()) && admits(f.GetDatabase(), r.GetDatabase()) && admits(f.GetVBucket(), r.GetVBucket())
}

// Rows returns the rows in the order of database, vBucket and node address. The slice
// and its rows are shared: callers do not change them.
func (d *Directory) Rows() []*serverpb.RegionInfo {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rows
}

// Changed returns a channel that is closed when what Rows or Live returns changes next.
// To miss no change, call it before them.
func (d *Directory) Changed() <-chan struct{} { return d.changed.Changed() }

// Live reports whether the rows are the registry's current ones, as opposed to the last
// known ones.
func (d *Directory) Live() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.live
}

// hasFollowed reports whether the rows have been live in this run.
func (d *Directory) hasFollowed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.followed
}

// announceChange wakes those that wait for a change, and the writer of the cache.
func (d *Directory) announceChange() {
	d.changed.Raise()
	d.cache.changed.Raise()
}

// replace replaces all rows. live says whether they are followed from now on.
func (d *Directory) replace(rows []*serverpb.RegionInfo, live bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	same := d.live == live && slices.EqualFunc(d.rows, rows, sameRow)
	d.rows, d.live = rows, live
	d.followed = d.followed || live
	if !same {
		d.announceChange()
	}
}

// sameRow compares two rows without the change number, which differs each time.
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

// merge applies a change.
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

// lose records that the rows are no longer followed.
func (d *Directory) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live {
		d.live = false
		d.announceChange()
	}
}

// Run follows the registry until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { d.cache.run(ctx, d.Rows, d.opts.Log) })
	d.follow(ctx)
	return nil
}
