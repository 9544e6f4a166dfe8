package rocksdb_test

import (
	"testing"

	"github.com/dkvdb/dkv/internal/storage/enginetest"
	"github.com/dkvdb/dkv/internal/storage/rocksdb"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

// rows are those of all engines of the suite, and stay as long as the process.
var rows = must(rowcache.New(rowcache.MinBytes))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func factory() enginetest.Factory {
	return enginetest.Factory{
		Open: func(dir string) (enginetest.Engine, error) {
			return rocksdb.Open(rocksdb.Options{Dir: dir, BlockCacheBytes: 8 << 20, RowCache: rows, WriteBufferBytes: 4 << 20})
		},
		Durable: true,
		Tables:  "*.sst",
	}
}

func TestEngine(t *testing.T) { enginetest.Run(t, factory()) }

func TestCrash(t *testing.T) { enginetest.RunCrash(t, factory()) }

// tuned opens engines as a node does.
func tuned() enginetest.Factory {
	f := factory()
	f.Open = func(dir string) (enginetest.Engine, error) { return rocksdb.Open(rocksdb.Options{Dir: dir}) }
	return f
}

func BenchmarkEngine(b *testing.B) { enginetest.Bench(b, tuned()) }

func BenchmarkLoad(b *testing.B) { enginetest.BenchLoad(b, tuned()) }
