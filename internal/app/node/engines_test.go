package node

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/storage/badger"
)

// What is configured for a process is shared by its engines, whose memory is counted as
// a whole.
func TestBadgerEnginesShareMemory(t *testing.T) {
	cfg := new(config.Config)
	cfg.Storage.Engine, cfg.Storage.BlockCacheSize = config.Badger, 1<<30
	for _, engines := range []int{1, 2, 16, 64} {
		cfg.Node.VBuckets = engines
		each := BadgerShare(&cfg.Storage, engines)
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
