package announce

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// until waits for rows.
func (d *Directory) until(t *testing.T, want ...string) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		changed := d.Changed()
		if slices.Equal(text(d.Rows()), want) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("rows %q, want %q", text(d.Rows()), want)
		}
	}
}

func newDirectory(t *testing.T, opts DirectoryOptions) (d *Directory, stop func()) {
	t.Helper()
	if opts.Pool == nil {
		opts.Pool = newPool(t)
	}
	d = OpenDirectory(opts)
	return d, testkit.Run(t, d.Run)
}

func TestDirectory(t *testing.T) {
	f := newFakeRegistry(region("1", slave), region("0", leader))
	n := serve(t, f)
	d, _ := newDirectory(t, DirectoryOptions{Addresses: []string{n.addr}})
	d.until(t, "0 LEADER", "1 ACTIVE_SLAVE")
	if !d.Live() {
		t.Error("is not live")
	}
	f.push(&serverpb.ClusterInfoChange{Rows: []*serverpb.RegionInfo{region("2", slave), region("1", leader)}, Gone: []*serverpb.RegionInfo{region("0", 0)}})
	d.until(t, "1 LEADER", "2 ACTIVE_SLAVE")
	f.push(&serverpb.ClusterInfoChange{}) // a sign of life
	f.push(&serverpb.ClusterInfoChange{Gone: []*serverpb.RegionInfo{region("1", 0)}})
	d.until(t, "2 ACTIVE_SLAVE")
}

// TestDirectoryReconnects keeps the last known rows, and takes those of the next
// node as a whole.
func TestDirectoryReconnects(t *testing.T) {
	f := newFakeRegistry(region("0", leader), region("1", slave))
	nodes := []*fakeNode{serve(t, f), serve(t, f)}
	addrs := []string{nodes[0].addr, nodes[1].addr}
	var log testkit.Log
	d, _ := newDirectory(t, DirectoryOptions{Addresses: addrs, Log: log.Logger(slog.LevelInfo)})
	d.until(t, "0 LEADER", "1 ACTIVE_SLAVE")
	f.set(func() { f.rows = f.rows[1:] })
	f.push(nil) // the registry changes hands
	d.until(t, "1 ACTIVE_SLAVE")

	for _, n := range nodes {
		n.stop()
	}
	testkit.Eventually(t, "the loss shows", func() bool { return !d.Live() })
	testkit.Eventually(t, "the loss is logged", func() bool { return log.Count("level=WARN") == 1 })
	d.until(t, "1 ACTIVE_SLAVE")
	f.set(func() { f.rows = []*serverpb.RegionInfo{region("2", leader)} })
	nodes[1].restart(t)
	d.until(t, "2 LEADER")
	testkit.Eventually(t, "it is live again", d.Live)
	testkit.Eventually(t, "the return is logged", func() bool { return log.Count("followed again") == 1 })
}

// TestOldRegistry polls what cannot be watched.
func TestOldRegistry(t *testing.T) {
	f := newFakeRegistry(region("0", leader))
	f.unwatched = true
	n := serve(t, f)
	d, _ := newDirectory(t, DirectoryOptions{Addresses: []string{n.addr}, PollInterval: time.Millisecond})
	d.until(t, "0 LEADER")
	changed := d.Changed()
	moved := region("0", leader)
	moved.ChangeNumber = 7
	f.set(func() { f.rows = []*serverpb.RegionInfo{moved} })
	testkit.Eventually(t, "the number arrives", func() bool { rows := d.Rows(); return len(rows) == 1 && rows[0].GetChangeNumber() == 7 })
	select {
	case <-changed:
		t.Error("a change number alone counts as a change")
	default:
	}
	f.set(func() { f.rows = []*serverpb.RegionInfo{region("0", slave)} })
	d.until(t, "0 ACTIVE_SLAVE")
	if !d.Live() {
		t.Error("is not live")
	}
	// A registry that was renewed is watched, sooner or later.
	f.set(func() { f.unwatched, f.rows = false, []*serverpb.RegionInfo{region("1", slave)} })
	testkit.Eventually(t, "a watch", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.watches) == 1 })
	d.until(t, "1 ACTIVE_SLAVE")
}

// TestRegistryWithoutOwner can be asked, and not watched: its rows are taken, and it
// does not count as followed.
func TestRegistryWithoutOwner(t *testing.T) {
	f := newFakeRegistry(region("0", leader))
	f.ownerless = true
	n := serve(t, f)
	d, _ := newDirectory(t, DirectoryOptions{Addresses: []string{n.addr}})
	d.until(t, "0 LEADER")
	if d.Live() {
		t.Error("is live")
	}
	f.set(func() { f.ownerless = false })
	testkit.Eventually(t, "it is live", d.Live)
}

// TestRowsOfANodeLeftAlone has a registry lose its owner, where a node of it knows only what was
// long ago: the rows that were followed stay, in the file too.
func TestRowsOfANodeLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry")
	f := newFakeRegistry(region("0", leader))
	n := serve(t, f)
	d, stop := newDirectory(t, DirectoryOptions{Addresses: []string{n.addr}, CachePath: path})
	d.until(t, "0 LEADER")
	f.set(func() { f.ownerless, f.rows = true, []*serverpb.RegionInfo{region("1", leader)} })
	f.push(nil)
	testkit.Eventually(t, "watches were tried again", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.watched > 3 })
	if got := text(d.Rows()); !slices.Equal(got, []string{"0 LEADER"}) || d.Live() {
		t.Errorf("rows %q, live %v", got, d.Live())
	}
	stop()
	if got := text(OpenDirectory(DirectoryOptions{CachePath: path}).Rows()); !slices.Equal(got, []string{"0 LEADER"}) {
		t.Errorf("rows %q in the file", got)
	}
}

func TestCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry")
	f := newFakeRegistry(region("0", leader), region("1", slave))
	n := serve(t, f)
	d, stop := newDirectory(t, DirectoryOptions{Addresses: []string{n.addr}, CachePath: path})
	d.until(t, "0 LEADER", "1 ACTIVE_SLAVE")
	stop()
	n.stop()

	// The next run starts while the registry is away.
	vBucket := "0"
	next := DirectoryOptions{Addresses: []string{n.addr}, CachePath: path, Filter: &serverpb.GetClusterInfoRequest{VBucket: &vBucket}}
	if got := text(OpenDirectory(next).Rows()); !slices.Equal(got, []string{"0 LEADER"}) {
		t.Errorf("rows of another filter: %q", got)
	}
	next.Filter = nil
	d, _ = newDirectory(t, next)
	if d.Live() {
		t.Error("is live")
	}
	d.until(t, "0 LEADER", "1 ACTIVE_SLAVE")
	f.set(func() { f.rows = f.rows[:1] })
	n.restart(t)
	d.until(t, "0 LEADER")
}

// TestCacheIsWrittenWhereItDiffers spares the disk.
func TestCacheIsWrittenWhereItDiffers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry")
	c := &cache{path: path}
	if rows, err := c.load(); err != nil || rows != nil {
		t.Fatal(rows, err)
	}
	row := region("0", leader)
	if err := c.write([]*serverpb.RegionInfo{row}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	moved := proto.CloneOf(row)
	moved.ChangeNumber, moved.Slaves = 7, 3
	if err := c.write([]*serverpb.RegionInfo{moved}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("numbers cost a write")
	}
	moved.Status = slave
	if err := c.write([]*serverpb.RegionInfo{moved}); err != nil {
		t.Fatal(err)
	}
	rows, err := (&cache{path: path}).load()
	if err != nil || len(rows) != 1 || rows[0].GetStatus() != slave || rows[0].GetChangeNumber() != 0 || moved.GetChangeNumber() != 7 {
		t.Errorf("%v, %v", rows, err)
	}
}

// TestDamagedCache is logged, and does no harm.
func TestDamagedCache(t *testing.T) {
	whole, err := encodeCache([]*serverpb.RegionInfo{region("0", leader)})
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := decodeCache(whole); err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	for i := range whole {
		flipped := slices.Clone(whole)
		flipped[i] ^= 1
		if _, err := decodeCache(flipped); err == nil {
			t.Errorf("a flipped bit in byte %d is not noticed", i)
		}
		if _, err := decodeCache(whole[:i]); err == nil {
			t.Errorf("the first %d bytes are accepted as the whole file", i)
		}
	}
	path := filepath.Join(t.TempDir(), "registry")
	if err := os.WriteFile(path, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	var log testkit.Log
	d := OpenDirectory(DirectoryOptions{CachePath: path, Log: log.Logger(slog.LevelInfo)})
	if len(d.Rows()) != 0 || log.Count("checksum") != 1 {
		t.Errorf("rows %q, log %s", text(d.Rows()), log.String())
	}
}

// TestCacheThatCannotBeWritten is logged once, and does no harm.
func TestCacheThatCannotBeWritten(t *testing.T) {
	f := newFakeRegistry(region("0", leader))
	n := serve(t, f)
	var log testkit.Log
	d, stop := newDirectory(t, DirectoryOptions{
		Addresses: []string{n.addr}, CachePath: filepath.Join(t.TempDir(), "missing", "registry"), Log: log.Logger(slog.LevelInfo),
	})
	d.until(t, "0 LEADER")
	testkit.Eventually(t, "it is logged", func() bool { return log.Count("cannot be cached") == 1 })
	f.push(&serverpb.ClusterInfoChange{Rows: []*serverpb.RegionInfo{region("1", slave)}})
	d.until(t, "0 LEADER", "1 ACTIVE_SLAVE")
	stop() // writes once more
	if got := log.Count("cannot be cached"); got != 1 {
		t.Errorf("logged %d times", got)
	}
}
