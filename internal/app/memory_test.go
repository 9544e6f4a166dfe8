package app

import (
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/storage/badger"
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
	if want := int64(heapFloor + workingHeap + 100<<20); rocks != want {
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
	undo := tuneCollector(cfg)
	if got := current(); got != heapLimit(cfg) {
		t.Errorf("limit %d, want %d", got, heapLimit(cfg))
	}
	undo()
	if got := current(); got != before {
		t.Errorf("limit %d afterwards, was %d", got, before)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	defer tuneCollector(cfg)()
	if got := current(); got != before {
		t.Errorf("limit %d although the user has set one", got)
	}
}

// What is configured for a process is shared by its engines, whose memory is counted as
// a whole.
func TestBadgerEnginesShareMemory(t *testing.T) {
	cfg := new(config.Config)
	cfg.Storage.Engine, cfg.Storage.BlockCacheSize = config.Badger, 1<<30
	for _, engines := range []int{1, 2, 16, 64} {
		cfg.Node.VBuckets = engines
		each := badgerShare(&cfg.Storage, engines)
		if all := each.BlockCacheBytes * int64(engines); all > 1<<30 {
			t.Errorf("%d engines have caches of %d bytes", engines, all)
		}
		if all := each.MemtableBytes * int64(engines); all > max(badger.DefaultMemtableBytes, badger.MinMemtableBytes*int64(engines)) {
			t.Errorf("%d engines have memory tables of %d bytes", engines, each.MemtableBytes)
		}
	}
	const memory = 2 << 30
	if err := checkBadgerFits(cfg, memory); err == nil || !strings.Contains(err.Error(), "--db-engine rocksdb") {
		t.Errorf("64 engines in 2 GiB, of which the cache has one: %v", err)
	}
	for _, fits := range []func(){
		func() { cfg.Storage.BlockCacheSize = 256 << 20 },
		func() { cfg.Storage.Engine = config.RocksDB },
		func() { cfg.Storage.Engine, cfg.Node.VBuckets = config.Badger, 1 },
	} {
		fits()
		if err := checkBadgerFits(cfg, memory); err != nil {
			t.Error(err)
		}
	}
}
