// Package diskspace rejects writes before the file system is full: an engine that
// fills the disk in the middle of a write is far worse off than a client that has
// to wait.
package diskspace

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/storage"
)

const (
	// interval between looks at the file system.
	interval = 250 * time.Millisecond
	// amplification is how many bytes of disk a byte of writes may take until
	// the next look: log, sorted file, and compaction's copy of it.
	amplification = 4
)

// Guard watches the free space of one file system. A nil Guard admits
// everything.
type Guard struct {
	path      string
	reserveOf func(total uint64) uint64
	probe     func(path string) (free, total uint64, err error)
	// minimum is what the engine itself wants free.
	minimum atomic.Uint64
	// fault is why nothing may be written whatever room there is; nil for nothing.
	fault atomic.Pointer[error]
	mu    sync.Mutex
	// check finds the fault; nil finds none.
	check func() error
	// owes are how much each engine will still write without being asked.
	owes []func() uint64

	free    atomic.Uint64
	total   atomic.Uint64
	reserve atomic.Uint64
	owed    atomic.Uint64
	// budget is what may still be written until the next look; negative once
	// the reserve is touched.
	budget atomic.Int64
}

// New looks at the file system of path. reserveOf returns, given its size,
// how many bytes of it to keep free.
func New(path string, reserveOf func(total uint64) uint64) (*Guard, error) {
	return newGuard(path, reserveOf, statfs)
}

func newGuard(path string, reserveOf func(uint64) uint64, probe func(string) (uint64, uint64, error)) (*Guard, error) {
	g := &Guard{path: path, reserveOf: reserveOf, probe: probe}
	if err := g.look(); err != nil {
		return nil, fmt.Errorf("free space of %s: %w", path, err)
	}
	return g, nil
}

func statfs(path string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	free, total = usable(&st)
	return free, total, nil
}

// usable returns how many bytes of a file system users may take, and how many they could if it
// were empty, as df counts: blocks that are kept for root would make a full disk look half full.
func usable(st *unix.Statfs_t) (free, total uint64) {
	size := uint64(st.Bsize)
	return st.Bavail * size, (st.Blocks - st.Bfree + st.Bavail) * size
}

// AtLeast raises the reserve to what an engine needs free to work at all, which
// not even deletes may touch.
func (g *Guard) AtLeast(bytes uint64) {
	if g != nil {
		g.minimum.Store(bytes)
		_ = g.look()
	}
}

// Requires makes the guard admit nothing while check returns an error.
func (g *Guard) Requires(check func() error) {
	g.mu.Lock()
	g.check = check
	g.mu.Unlock()
	_ = g.look()
}

// Fault is why nothing may be written whatever room there is; nil for nothing.
func (g *Guard) Fault() error {
	if g == nil {
		return nil
	}
	if fault := g.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

// Owes makes the guard count what one more engine will still write of what it
// has taken already: memtables, and merging them into files. It counts from now on;
// the others are not asked again before the next look: there may be a thousand.
func (g *Guard) Owes(bytes func() uint64) {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.owes = append(g.owes, bytes)
	g.mu.Unlock()
	one := bytes()
	g.owed.Add(one)
	g.budget.Add(-int64(one) / amplification)
}

// look refreshes the budget. If the file system does not answer, the old
// budget keeps shrinking.
func (g *Guard) look() error {
	g.mu.Lock()
	check := g.check
	g.mu.Unlock()
	if check != nil {
		if err := check(); err != nil {
			g.fault.Store(&err)
			return err
		}
		g.fault.Store(nil)
	}
	free, total, err := g.probe(g.path)
	if err != nil {
		return err
	}
	reserve := max(g.reserveOf(total), g.minimum.Load()) // a file system may have been made larger
	g.mu.Lock()
	owes := g.owes // which only grows
	g.mu.Unlock()
	owed := uint64(0)
	for _, bytes := range owes {
		owed += bytes()
	}
	g.free.Store(free)
	g.total.Store(total)
	g.reserve.Store(reserve)
	g.owed.Store(owed)
	g.budget.Store((int64(free) - int64(reserve) - int64(owed)) / amplification)
	return nil
}

// settled is for how long there has to be room before that is reported: at the edge, what
// each write takes and each compaction gives back would be.
const settled = 5 * time.Second

// Run keeps looking until ctx ends. It reports when writes begin to be rejected, and when
// there is room for them again.
func (g *Guard) Run(ctx context.Context, changed func(low bool)) {
	var reported bool
	var since time.Duration // for how long there has been room
	for periodic.Wait(ctx, interval) {
		_ = g.look() // the next one may do better
		if since += interval; g.Low() {
			since = 0
		}
		if low := since == 0; low != reported && (low || since >= settled) {
			reported = low
			changed(low)
		}
	}
}

// Admit takes n bytes off the budget, or returns an error that wraps
// storage.ErrNoSpace, or the fault. Writes that free space in the end, deletes that is, may
// go halfway into the reserve, though not below what the engine needs, and into
// half of what is for earlier writes.
func (g *Guard) Admit(n int, frees bool) error {
	if g == nil {
		return nil
	}
	if fault := g.Fault(); fault != nil {
		return fault
	}
	limit := int64(0)
	if frees {
		reserve := g.reserve.Load()
		spare := min(reserve/2, reserve-min(reserve, g.minimum.Load()))
		limit = -int64(spare+g.owed.Load()/2) / amplification
	}
	if g.budget.Add(-int64(n)) >= limit {
		return nil
	}
	g.budget.Add(int64(n))
	reserve, owed := g.reserve.Load(), g.owed.Load()
	of := "disk-reserve"
	if owed>>20 > 0 {
		of = fmt.Sprintf("disk-reserve, and %d MiB for earlier writes", owed>>20)
	}
	free, when := g.free.Load(), ""
	if free > reserve+owed {
		when = ", which this one could come to with those just before it"
	}
	return fmt.Errorf("%w: %d MiB are free on the file system of %s, and writes stop below %d MiB (%s)%s; free some space, writes resume by themselves",
		storage.ErrNoSpace, free>>20, g.path, (reserve+owed)>>20, of, when)
}

// Fits returns an error that wraps storage.ErrNoSpace if n bytes, written at
// once as by a restore, would go into the reserve.
func (g *Guard) Fits(n uint64) error {
	if g == nil {
		return nil
	}
	if err := g.look(); err != nil {
		return fmt.Errorf("free space of %s: %w", g.path, err)
	}
	free, reserve := g.free.Load(), g.reserve.Load()
	if free >= reserve && free-reserve >= n {
		return nil
	}
	return fmt.Errorf("%w: it takes %d MiB, and of the %d MiB that are free on the file system of %s, %d MiB are held in reserve",
		storage.ErrNoSpace, n>>20, free>>20, g.path, reserve>>20)
}

// Covers reports whether path, which exists, is on the file system that is
// watched.
func (g *Guard) Covers(path string) bool {
	if g == nil {
		return false
	}
	var own, other unix.Stat_t
	return unix.Stat(g.path, &own) == nil && unix.Stat(path, &other) == nil && own.Dev == other.Dev
}

// Path is the folder whose file system is watched; empty for a nil Guard.
func (g *Guard) Path() string {
	if g == nil {
		return ""
	}
	return g.path
}

// Low reports whether writes are being rejected.
func (g *Guard) Low() bool {
	return g != nil && (g.budget.Load() <= 0 || g.fault.Load() != nil)
}

// Shortage says why writes are being rejected, in the same words for as long as they are;
// empty if they are not.
func (g *Guard) Shortage() string {
	if fault := g.Fault(); fault != nil {
		return fault.Error()
	}
	if !g.Low() {
		return ""
	}
	return fmt.Sprintf("the disk is nearly full: writes stop below %d MiB (disk-reserve) on the file system of %s; free some space, writes resume by themselves",
		g.reserve.Load()>>20, g.path)
}

// FilesLeft reports whether the process can open n files more.
func FilesLeft(n int) bool {
	for range n {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return storage.Shortage(err) != storage.ErrNoFiles
		}
		defer f.Close() // when all of them are open
	}
	return true
}

// Usage is the state of a file system, in bytes. Free and Total may belong to
// two looks at it.
type Usage struct{ Free, Total, Reserve uint64 }

// Usage returns what was seen last; zeros for a nil Guard.
func (g *Guard) Usage() Usage {
	if g == nil {
		return Usage{}
	}
	return Usage{Free: g.free.Load(), Total: g.total.Load(), Reserve: g.reserve.Load()}
}
