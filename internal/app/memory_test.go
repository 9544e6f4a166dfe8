package app

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/dkvdb/dkv/internal/config"
)

func TestHeapLimit(t *testing.T) {
	vBuckets := 1
	at := func(engine config.Engine, cache config.Size, diskless bool) int64 {
		cfg := new(config.Config)
		cfg.Node.VBuckets = vBuckets
		cfg.Storage.Engine, cfg.Storage.BlockCacheSize, cfg.Storage.Diskless = engine, cache, diskless
		cfg.Limits.MemoryInFlight = 100 << 20
		return heapLimit(cfg)
	}
	const cache = 1 << 30
	rocks := at(config.RocksDB, cache, false)
	// The messages in flight, and as much again for the results of requests.
	if want := int64(heapFloor + workingHeap + 2*100<<20); rocks != want {
		t.Errorf("rocksdb, whose cache is outside Go's heap: %d, want %d", rocks, want)
	}
	if bdg := at(config.Badger, cache, false); bdg < rocks+cache || bdg > rocks+2*cache {
		t.Errorf("badger: %d, with a cache of %d", bdg, cache)
	}
	one := at(config.Badger, cache, false)
	vBuckets = 16
	if many := at(config.Badger, cache, false); many < one || many > one+16*32<<20 {
		t.Errorf("16 badger engines: %d, and one: %d", many, one)
	}
	if got := at(config.Badger, cache, true); got != math.MaxInt64 {
		t.Errorf("diskless: %d", got)
	}
}

func TestTuneCollector(t *testing.T) {
	cfg := new(config.Config)
	cfg.Storage.Engine = config.RocksDB
	current := func() int64 { return debug.SetMemoryLimit(-1) }
	before := current()
	undo := tuneCollector(cfg, nil)
	if got := current(); got != heapLimit(cfg) {
		t.Errorf("limit %d, want %d", got, heapLimit(cfg))
	}
	undo()
	if got := current(); got != before {
		t.Errorf("limit %d afterwards, was %d", got, before)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	defer tuneCollector(cfg, nil)()
	if got := current(); got != before {
		t.Errorf("limit %d although the user has set one", got)
	}
}

// However many vBuckets there are, about as much garbage comes together before the
// collector runs.
func TestGarbageIsBoundedForManyVBuckets(t *testing.T) {
	for _, vBuckets := range []int{1, 16, 64, 256, 1024} {
		kept := heapFloor + vBuckets*heapPerVBucket
		garbage := kept * heapPercent(vBuckets) / 100
		if garbage > heapFloor || garbage < heapFloor*9/10 {
			t.Errorf("%d vBuckets: %d bytes of garbage, want about %d", vBuckets, garbage, heapFloor)
		}
	}
}

func TestTuneCollectorLeavesTheUsersPercent(t *testing.T) {
	cfg := new(config.Config)
	cfg.Node.VBuckets = 1024
	current := func() int {
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		return percent
	}
	before := current()
	undo := tuneCollector(cfg, nil)
	if got, want := current(), quietPercent(heapPercent(1024)); got != want {
		t.Errorf("%d percent, want %d", got, want)
	}
	undo()
	if got := current(); got != before {
		t.Errorf("%d percent afterwards, was %d", got, before)
	}
	t.Setenv("GOGC", "70")
	defer tuneCollector(cfg, nil)()
	if got := current(); got != before {
		t.Errorf("%d percent although the user has set one", got)
	}
}
