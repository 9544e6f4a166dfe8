package changelog_test

import (
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func benchChange(index kv.Index) kv.Change {
	return kv.Change{Index: index, Clock: 1_700_000_000_000, Mutations: []kv.Mutation{
		{Key: make([]byte, 16), Value: make([]byte, 128)},
	}}
}

func BenchmarkAppend(b *testing.B) {
	var w changelog.Writer
	var batch storage.Batch
	c := benchChange(1)
	total := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		if c.Index%64 == 0 {
			w.Flush(&batch)
			batch.Reset()
		}
		c.Index++
		total = w.Append(&batch, c, total)
	}
}

const benchRecords = 10_000

func filledLog(b *testing.B) *log {
	l := newLog(b)
	for i := range kv.Index(benchRecords) {
		l.append(benchChange(i + 1))
	}
	return l
}

func BenchmarkScan(b *testing.B) {
	l := filledLog(b)
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("changes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := len(l.scan(benchRecords/2, n, 1<<30)); got != n {
					b.Fatal(got)
				}
			}
		})
	}
}

func BenchmarkFloor(b *testing.B) {
	l := filledLog(b)
	b.ReportAllocs()
	for b.Loop() {
		if f := l.floor(changelog.Retention{MaxBytes: l.total / 2}, 1, benchRecords, 0); f < benchRecords/3 {
			b.Fatal(f)
		}
	}
}
