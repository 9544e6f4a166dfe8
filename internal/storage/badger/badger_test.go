package badger_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/storage/badger"
	"github.com/dkvdb/dkv/internal/storage/enginetest"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rows are those of all engines of the suite, and stay as long as the process.
var rows = must(rowcache.New(rowcache.MinBytes))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func onDisk() enginetest.Factory {
	return enginetest.Factory{
		Open: func(dir string) (enginetest.Engine, error) {
			return open(badger.Options{Dir: dir, BlockCacheBytes: 1 << 20, RowCache: rows})
		},
		Durable: true,
		Tables:  "*.sst",
	}
}

func diskless() enginetest.Factory {
	f := onDisk()
	return enginetest.Factory{
		Open: func(string) (enginetest.Engine, error) {
			return open(badger.Options{Diskless: true, MemtableBytes: 2 * badger.MinMemtableBytes, BlockCacheBytes: 1 << 20, RowCache: rows})
		},
		OpenCheckpoint: f.Open,
	}
}

// open keeps a nil *Engine out of the interface.
func open(opts badger.Options) (enginetest.Engine, error) {
	e, err := badger.Open(opts)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// small is onDisk with the smallest memory tables, with which large batches are written
// in several steps.
func small() enginetest.Factory {
	f := onDisk()
	f.Open = func(dir string) (enginetest.Engine, error) {
		return open(badger.Options{Dir: dir, MemtableBytes: badger.MinMemtableBytes, ReserveBytes: -1})
	}
	return f
}

// smallDiskless is diskless with them.
func smallDiskless() enginetest.Factory {
	f := diskless()
	f.Open = func(string) (enginetest.Engine, error) {
		return open(badger.Options{Diskless: true, MemtableBytes: badger.MinMemtableBytes, BlockCacheBytes: 1 << 20, RowCache: rows})
	}
	return f
}

func TestSmallDiskless(t *testing.T)       { enginetest.Run(t, smallDiskless()) }
func TestSmallMemtables(t *testing.T)      { enginetest.Run(t, small()) }
func TestSmallMemtablesCrash(t *testing.T) { enginetest.RunCrash(t, small()) }

func TestOnDisk(t *testing.T)   { enginetest.Run(t, onDisk()) }
func TestDiskless(t *testing.T) { enginetest.Run(t, diskless()) }
func TestCrash(t *testing.T)    { enginetest.RunCrash(t, onDisk()) }

func BenchmarkOnDisk(b *testing.B)   { enginetest.Bench(b, onDisk()) }
func BenchmarkDiskless(b *testing.B) { enginetest.Bench(b, diskless()) }

func BenchmarkLoadOnDisk(b *testing.B)   { enginetest.BenchLoad(b, onDisk()) }
func BenchmarkLoadDiskless(b *testing.B) { enginetest.BenchLoad(b, diskless()) }
