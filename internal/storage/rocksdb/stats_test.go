package rocksdb

import (
	"fmt"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

// Reads of files count what the cache and the filters did, and fsyncs how long they took.
func TestStatsCountReadsAndSyncs(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	for i := range 200 {
		write(t, e, false, fmt.Sprintf("k%04d", 2*i), "v")
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	before := e.Stats().Counted
	for range 2 {
		for i := range 400 {
			if _, _, err := e.Get(storage.Data, fmt.Appendf(nil, "k%04d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := e.Stats().Counted
	c.CacheMisses -= before.CacheMisses // the file's own blocks
	if c.CacheMisses == 0 || c.CacheHits < c.CacheMisses {
		t.Errorf("%d cache hits and %d misses after reading one file twice", c.CacheHits, c.CacheMisses)
	}
	if c.FilterFound != 400 || c.FilterPassed < 400 || c.FilterSkipped < 300 || c.FilterPassed+c.FilterSkipped > 800 {
		t.Errorf("the filter of a file with half of the keys: %+v", c)
	}
	if c.StallTime != 0 || e.Stats().WriteStopped {
		t.Errorf("a few writes stalled for %v", c.StallTime)
	}
	syncs := c.Syncs.Total()
	for range 3 {
		write(t, e, true, "k", "v")
	}
	if err := e.Sync(); err != nil {
		t.Fatal(err)
	}
	after := e.Stats().Counted.Syncs
	if n := after.Total() - syncs; n != 4 || after.Sum <= c.Syncs.Sum || after.Sum > time.Hour {
		t.Errorf("three synced writes and a sync count as %d fsyncs of %v", n, after.Sum-c.Syncs.Sum)
	}
}

// A key that is read again is found without a look into memtables or files, until it is written.
func TestStatsCountRows(t *testing.T) {
	o := testOptions(t.TempDir())
	var err error
	if o.RowCache, err = rowcache.New(rowcache.MinBytes); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.RowCache.Close)
	e := open(t, o)
	write(t, e, false, "k", "v")
	for range 3 {
		get(t, e, "k")
	}
	write(t, e, false, "k", "w")
	if v := get(t, e, "k"); v != "w" {
		t.Errorf("read %q after a write", v)
	}
	s := e.Stats()
	if s.Counted.RowHits != 2 || s.Counted.RowMisses != 2 || s.RowCacheBytes == 0 {
		t.Errorf("%d hits, %d misses, %d bytes", s.Counted.RowHits, s.Counted.RowMisses, s.RowCacheBytes)
	}
}

// The levels have all files and all bytes of the sorted files.
func TestStatsByLevel(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	for i := range 3 {
		write(t, e, false, fmt.Sprintf("k%d", i), "v")
		if err := e.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if s := e.Stats(); s.ByLevel[0].Files != 3 || s.ByLevel[0].Bytes == 0 || s.SSTFiles != 3 {
		t.Errorf("three flushes: %+v", s)
	}
	if err := e.Compact(); err != nil {
		t.Fatal(err)
	}
	s := e.Stats()
	if last := s.ByLevel[storage.Levels-1]; s.ByLevel[0].Files != 0 || last.Files != 1 || last.Bytes == 0 {
		t.Errorf("after compaction: %+v", s.ByLevel)
	}
}
