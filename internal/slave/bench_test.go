package slave

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

// BenchmarkLag puts ten thousand keys a second, and measures how long each takes to
// be there for readers of the slave.
func BenchmarkLag(b *testing.B) {
	const perTick, tick = 10, time.Millisecond
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			r := newRig(b)
			m := r.master("m1:1")
			s := r.slave(source.Fixed("m1:1"), streaming, e.on(b, b.TempDir()))
			s.has(m)
			type mark struct {
				at   kv.Index
				when time.Time
			}
			marks := make(chan mark, 1<<20)
			stop := testkit.Run(r.t, func(ctx context.Context) error {
				defer close(marks)
				t := time.NewTicker(tick)
				defer t.Stop()
				for i := 0; ctx.Err() == nil; <-t.C {
					var at kv.Index
					for range perTick {
						i++
						at = m.write(kv.Mutation{Key: fmt.Appendf(nil, "key-%012d", i%100_000), Value: make([]byte, 128)})
					}
					marks <- mark{at, time.Now()}
				}
				return nil
			})
			var lags []time.Duration
			for range b.N {
				k := <-marks
				if _, _, _, err := s.Get(b.Context(), []byte("key"), kv.ReadOptions{MinIndex: k.at}); err != nil {
					b.Fatal(err)
				}
				lags = append(lags, time.Since(k.when))
			}
			rate := float64(b.N*perTick) / b.Elapsed().Seconds()
			stop()
			slices.Sort(lags)
			b.ReportMetric(rate, "puts/s")
			b.ReportMetric(float64(lags[len(lags)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds())/1000, "ms-p99")
		})
	}
}

// BenchmarkBootstrap gets a snapshot of 64 MiB.
func BenchmarkBootstrap(b *testing.B) {
	const pairs, size = 64 << 10, 1 << 10
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			r := newRig(b)
			m := r.master("m1:1")
			m.fill("k", pairs, size)
			want := m.Replica.Status()
			b.SetBytes(pairs * size)
			b.ResetTimer()
			for range b.N {
				s := r.slave(source.Fixed("m1:1"), streaming, e.on(b, b.TempDir()))
				for {
					if id, at := s.Position(); id == want.Identity && at == want.Applied {
						break
					}
					time.Sleep(time.Millisecond)
				}
				b.StopTimer()
				s.stop()
				if err := s.Replica.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
