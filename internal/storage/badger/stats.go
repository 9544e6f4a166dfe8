package badger

import (
	"sync/atomic"

	bdg "github.com/dgraph-io/badger/v4"

	"github.com/dkvdb/dkv/internal/storage"
)

// memtable estimates what Badger's active memory table holds; Badger does not
// report it.
type memtable struct {
	bytes atomic.Int64
	data  atomic.Int64 // keys of Data
}

// entryOverhead is what an entry takes beside its key and value: a skip list
// node of average height, the version and the value's header.
const entryOverhead = 56

func (m *memtable) add(entries, size, data int, full int64) {
	m.data.Add(int64(data))
	if m.bytes.Add(int64(size+entries*entryOverhead)) >= full {
		// About now Badger starts a new one.
		m.bytes.Store(0)
		m.data.Store(0)
	}
}

// Stats implements storage.Engine. RowCacheBytes is that of the whole cache, even if other
// engines share it. MemtableBytes and EstimatedKeys are
// estimates; overwrites count as keys until they are compacted away. Badger
// does not report how long it has compacted, nor what its filters do. Its log is made
// durable by each commit: Counted.Syncs are the commits.
func (e *Engine) Stats() storage.Stats {
	if e.closed.Load() {
		return storage.Stats{}
	}
	s := storage.Stats{MemtableBytes: uint64(e.memtable.bytes.Load())}
	e.rows.Fill(&s)
	for _, l := range e.db.Levels() {
		s.SSTFiles += uint64(l.NumTables)
		s.DiskBytes += uint64(l.Size)
		level := &s.ByLevel[min(l.Level, storage.Levels-1)]
		level.Files += uint64(l.NumTables)
		level.Bytes += uint64(l.Size)
		if l.Score > 1 && l.Size > l.TargetSize {
			s.PendingCompactionBytes += uint64(l.Size - l.TargetSize)
		}
	}
	if m := e.db.BlockCacheMetrics(); m != nil {
		s.CacheBytes = m.CostAdded() - m.CostEvicted()
		s.Counted.CacheHits, s.Counted.CacheMisses = m.Hits(), m.Misses()
	}
	keys := max(0, e.memtable.data.Load())
	for _, t := range e.db.Tables() {
		keys += dataKeys(t)
	}
	s.EstimatedKeys = uint64(keys)
	s.Counted.Syncs = e.commits.Counts()
	return s
}

// dataKeys estimates how many keys of a table are in Data: all, none or, for a
// table across several spaces, an equal share.
func dataKeys(t bdg.TableInfo) int64 {
	if len(t.Left) == 0 || len(t.Right) == 0 || t.Left[0] > spaceByte(storage.Data) {
		return 0
	}
	last := min(t.Right[0], spaceByte(storage.Spaces-1))
	return int64(t.KeyCount) / int64((last-t.Left[0])/2+1)
}
