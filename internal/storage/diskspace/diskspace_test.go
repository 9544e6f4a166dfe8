package diskspace

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// disk is a file system that a test fills and empties.
type disk struct {
	mu          sync.Mutex
	free, total uint64
	err         error
	looks       int
}

func (d *disk) probe(string) (free, total uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looks++
	return d.free, d.total, d.err
}

func (d *disk) set(free uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free, d.err = free, err
}

// reserve keeps a tenth free.
func reserve(total uint64) uint64 { return total / 10 }

func guardOf(t *testing.T, d *disk) *Guard {
	t.Helper()
	g, err := newGuard("/data", reserve, d.probe)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestBudget(t *testing.T) {
	// 100 MiB over the reserve: with the amplification, 25 MiB may be written.
	g := guardOf(t, &disk{free: 200 * mib, total: 1000 * mib})
	for range 25 {
		if err := g.Admit(mib, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Admit(1, false); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("one byte more: %v", err)
	}
	if !g.Low() {
		t.Error("the budget is used up, and it is not low")
	}
}

func TestRefusedBytesAreGivenBack(t *testing.T) {
	g := guardOf(t, &disk{free: 200 * mib, total: 1000 * mib})
	for range 10 {
		if err := g.Admit(26*mib, false); err == nil {
			t.Fatal("it was admitted")
		}
	}
	if g.Low() {
		t.Error("what was refused has used up the budget")
	}
	if err := g.Admit(25*mib, false); err != nil {
		t.Error(err)
	}
}

func TestDeletesGoHalfwayIntoTheReserve(t *testing.T) {
	d := &disk{free: 80 * mib, total: 1000 * mib} // 20 MiB into the reserve of 100
	g := guardOf(t, d)
	if err := g.Admit(1, false); err == nil {
		t.Error("a put was admitted")
	}
	if !g.Low() {
		t.Error("it is not low")
	}
	// 30 MiB are left to half of it: 7.5 MiB of writes.
	for range 7 {
		if err := g.Admit(mib, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Admit(mib, true); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("a delete beyond half of the reserve: %v", err)
	}
	d.set(40*mib, nil)
	if err := g.look(); err != nil {
		t.Fatal(err)
	}
	if err := g.Admit(1, true); err == nil {
		t.Error("a delete was admitted beyond half of the reserve")
	}
}

// What the engine has taken and not written yet needs its room too.
func TestBudgetCountsWhatIsOwed(t *testing.T) {
	g := guardOf(t, &disk{free: 200 * mib, total: 1000 * mib})
	owed := uint64(50 * mib)
	g.Owes(func() uint64 { return owed })
	g.Owes(func() uint64 { return 10 * mib })
	for range 10 {
		if err := g.Admit(mib, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Admit(mib, false); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("into what is owed: %v", err)
	}
	if !g.Low() {
		t.Error("writes are refused, and Low says no")
	}
	owed = 0
	if err := g.look(); err != nil {
		t.Fatal(err)
	}
	if err := g.Admit(mib, false); err != nil || g.Low() {
		t.Errorf("with nothing owed any more: %v", err)
	}
}

// A node opens a thousand engines: each is asked once for that, not once for every other.
func TestEngineThatOpensAsksNoOther(t *testing.T) {
	g := guardOf(t, &disk{free: 200 * mib, total: 1000 * mib})
	const engines = 100
	asked := 0
	for range engines {
		g.Owes(func() uint64 { asked++; return mib })
	}
	if asked != engines {
		t.Errorf("%d engines were asked %d times", engines, asked)
	}
	if owed := g.owed.Load(); owed != engines*mib {
		t.Errorf("%d bytes are owed, not %d", owed, engines*mib)
	}
	if !g.Low() {
		t.Error("what is owed was not taken off the budget")
	}
}

// Below what the engine needs nothing is written, deletes neither.
func TestEngineMinimum(t *testing.T) {
	d := &disk{free: 400 * mib, total: 1000 * mib}
	g := guardOf(t, d)
	g.AtLeast(300 * mib)
	if got := g.Usage().Reserve; got != 300*mib {
		t.Errorf("the reserve is %d MiB", got/mib)
	}
	d.set(299*mib, nil)
	if err := g.look(); err != nil {
		t.Fatal(err)
	}
	for _, frees := range []bool{false, true} {
		if err := g.Admit(mib, frees); !errors.Is(err, storage.ErrNoSpace) {
			t.Errorf("below the minimum, frees %v: %v", frees, err)
		}
	}
	g.AtLeast(80 * mib) // of a reserve of 100: deletes may take 20 of it
	d.set(100*mib, nil)
	if err := g.look(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := g.Admit(mib, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Admit(mib, true); err == nil {
		t.Error("a delete was admitted below the minimum")
	}
	var none *Guard
	none.AtLeast(1)
	none.Owes(nil)
}

func TestErrorSaysWhatToDo(t *testing.T) {
	g := guardOf(t, &disk{free: 80 * mib, total: 1000 * mib})
	g.Owes(func() uint64 { return 7 * mib })
	err := g.Admit(1, false)
	const want = "no space left on device: 80 MiB are free on the file system of /data, and writes stop below 107 MiB (disk-reserve, and 7 MiB for earlier writes); free some space, writes resume by themselves"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// What is written until the next look may take several times its size: a write can be rejected
// although there seems to be room for it.
func TestErrorOfABurstSaysWhyThereIsNoRoom(t *testing.T) {
	g := guardOf(t, &disk{free: 120 * mib, total: 1000 * mib})
	if err := g.Admit(4*mib, false); err != nil {
		t.Fatal(err)
	}
	err := g.Admit(2*mib, false)
	const want = "no space left on device: 120 MiB are free on the file system of /data, and writes stop below 100 MiB (disk-reserve), which this one could come to with those just before it; free some space, writes resume by themselves"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestNoFileSystem(t *testing.T) {
	broken := errors.New("stale file handle")
	if _, err := newGuard("/data", reserve, (&disk{err: broken}).probe); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if _, err := New(filepath.Join(t.TempDir(), "nowhere"), reserve); err == nil {
		t.Error("a folder that is not there has free space")
	}
}

func TestRealFileSystem(t *testing.T) {
	dir := t.TempDir()
	g, err := New(dir, func(uint64) uint64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	u := g.Usage()
	if u.Total == 0 || u.Free > u.Total || u.Reserve != 0 {
		t.Errorf("usage %+v", u)
	}
	if !g.Covers(dir) || g.Covers("/proc") || g.Covers(filepath.Join(dir, "nowhere")) {
		t.Error("Covers does not know the file system")
	}
	if err := g.Fits(math.MaxUint64); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("everything fits: %v", err)
	}
}

func TestBlocksOfRootDoNotCount(t *testing.T) {
	free, total := usable(&unix.Statfs_t{Bsize: 10, Blocks: 100, Bfree: 40, Bavail: 15})
	if free != 150 || total != 750 {
		t.Fatalf("%d of %d bytes are free; 60 blocks are taken, and users may take 15 more", free, total)
	}
}

func TestNothingIsAdmittedWithAFault(t *testing.T) {
	g := guardOf(t, &disk{free: 200 * mib, total: 1000 * mib})
	fault := errors.New("the folder is gone")
	g.Requires(func() error { return fault })
	if err := g.Admit(0, true); !errors.Is(err, fault) || !errors.Is(g.Fault(), fault) || !g.Low() || g.Shortage() != fault.Error() {
		t.Errorf("%v, %v, %q", err, g.Fault(), g.Shortage())
	}
	fault = nil
	if err := errors.Join(g.look(), g.Admit(mib, false), g.Fault()); err != nil || g.Low() || g.Shortage() != "" {
		t.Errorf("without it: %v, %q", err, g.Shortage())
	}
}

func TestNilGuardAdmitsEverything(t *testing.T) {
	var g *Guard
	if err := errors.Join(g.Admit(math.MaxInt, false), g.Fits(math.MaxUint64)); err != nil {
		t.Error(err)
	}
	if g.Low() || g.Fault() != nil || g.Covers("/") || g.Usage() != (Usage{}) {
		t.Error("a nil guard knows something")
	}
}

func TestFits(t *testing.T) {
	d := &disk{free: 200 * mib, total: 1000 * mib}
	g := guardOf(t, d)
	if err := g.Fits(100 * mib); err != nil {
		t.Error(err)
	}
	const want = "no space left on device: it takes 101 MiB, and of the 200 MiB that are free on the file system of /data, 100 MiB are held in reserve"
	if err := g.Fits(101 * mib); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	d.set(50*mib, nil) // it looks for itself
	if err := g.Fits(0); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("below the reserve: %v", err)
	}
	broken := errors.New("stale file handle")
	d.set(0, broken)
	if err := g.Fits(1); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// TestRunReports: that writes are rejected is reported at once, and that there is room when
// there has been for a while, so that a disk at the edge is not reported again and again.
func TestRunReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{free: 200 * mib, total: 1000 * mib}
		g := guardOf(t, d)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		var said []bool
		go func() { defer close(done); g.Run(ctx, func(low bool) { said = append(said, low) }) }()
		free := func(bytes uint64, looks time.Duration) {
			d.set(bytes, nil)
			time.Sleep(looks * interval)
			synctest.Wait()
		}
		for range 3 {
			free(90*mib, 1)
			if want := "the disk is nearly full: writes stop below 100 MiB (disk-reserve) on the file system of /data; free some space, writes resume by themselves"; g.Shortage() != want {
				t.Errorf("%q", g.Shortage())
			}
			free(150*mib, settled/interval/2)
			if g.Shortage() != "" {
				t.Errorf("with room: %q", g.Shortage())
			}
		}
		if !slices.Equal(said, []bool{true}) {
			t.Errorf("at the edge: %v", said)
		}
		free(150*mib, settled/interval)
		free(90*mib, 1)
		if !slices.Equal(said, []bool{true, false, true}) {
			t.Errorf("with room, and full again: %v", said)
		}
		cancel()
		<-done
	})
}

// TestRun fills the disk, empties it, and has it not answer, while the guard
// looks on.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{free: 200 * mib, total: 1000 * mib}
		g := guardOf(t, d)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); g.Run(ctx, func(bool) {}) }()
		after := func(free uint64, err error) {
			d.set(free, err)
			time.Sleep(interval)
			synctest.Wait()
		}
		after(90*mib, nil)
		if !g.Low() || g.Usage().Free != 90*mib {
			t.Errorf("full: low %v, %+v", g.Low(), g.Usage())
		}
		if err := g.Admit(1, false); err == nil {
			t.Error("a write was admitted")
		}
		after(108*mib, nil) // room for 2 MiB of writes
		if err := g.Admit(mib, false); err != nil || g.Low() {
			t.Errorf("room again: %v, low %v", err, g.Low())
		}
		after(0, errors.New("stale file handle")) // what was known goes on shrinking
		if err := g.Admit(mib, false); err != nil {
			t.Errorf("no answer: %v", err)
		}
		if err := g.Admit(1, false); err == nil {
			t.Error("no answer is no limit")
		}
		d.mu.Lock()
		d.total = 2000 * mib // made larger
		d.mu.Unlock()
		after(500*mib, nil)
		if u := g.Usage(); u != (Usage{Free: 500 * mib, Total: 2000 * mib, Reserve: 200 * mib}) {
			t.Errorf("usage %+v", u)
		}
		cancel()
		<-done
		looks := d.looks
		time.Sleep(10 * interval)
		if d.looks != looks {
			t.Error("it still looks")
		}
	})
}

func TestConcurrentAdmits(t *testing.T) {
	g := guardOf(t, &disk{free: 100*mib + 4000, total: 1000 * mib}) // 1000 bytes of writes
	var admitted [8]int
	var wg sync.WaitGroup
	for i := range admitted {
		wg.Go(func() {
			for range 1000 {
				if g.Admit(1, false) == nil {
					admitted[i]++
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range admitted {
		sum += n
	}
	if sum > 1000 || sum < 1000-len(admitted) {
		t.Errorf("%d bytes were admitted, the budget was 1000", sum)
	}
}

func BenchmarkAdmit(b *testing.B) {
	g, err := newGuard("/data", reserve, (&disk{free: math.MaxInt64, total: math.MaxInt64}).probe)
	if err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := g.Admit(1, false); err != nil {
				b.Error(err)
			}
		}
	})
}
