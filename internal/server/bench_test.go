package server

import (
	"context"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/access/accesstest"
	"github.com/dkvdb/dkv/internal/auth"
)

// BenchmarkAccess measures what deciding about a call costs a get through the server: by a
// node without authentication, and by a token whose grant has prefixes. Each is compared with a
// server without a guard that gets the same requests. All take turns, so that the noise of the
// machine meets them alike; what is reported is the round that a tenth of the rounds are
// faster than.
func BenchmarkAccess(b *testing.B) {
	a := accesstest.New()
	a.Grant("reader", auth.Grant{Role: auth.Read, Databases: []string{"db"}, Prefixes: [][]byte{[]byte("a/"), []byte("k/")}})
	plain := b.Context()
	token := metadata.AppendToOutgoingContext(plain, "authorization", "Bearer reader")
	kinds := []struct {
		name  string
		guard *access.Guard
		ctx   context.Context
		base  int // of kinds
	}{
		{"unguarded", nil, plain, 0},
		{"open", access.NewGuard(access.Options{Exposure: access.Protected}), plain, 0},
		{"unguarded-token", nil, token, 2},
		{"token", access.NewGuard(access.Options{Authenticator: a, Database: "db"}), token, 2},
	}
	rigs := make([]*rig, len(kinds))
	for i, k := range kinds {
		rigs[i] = newRig(b, func(o *Options) { o.Access = k.guard })
	}
	req := &serverpb.GetRequest{Key: []byte("k/12345678")}
	const round = 50
	took := make([][]float64, len(kinds))
	for n := 0; n < b.N; n += round {
		for i, k := range kinds {
			begun := time.Now()
			for range round {
				if _, err := rigs[i].Get(k.ctx, req); err != nil {
					b.Fatal(err)
				}
			}
			took[i] = append(took[i], float64(time.Since(begun).Nanoseconds())/round)
		}
	}
	quick := make([]float64, len(kinds))
	for i, k := range kinds {
		slices.Sort(took[i])
		quick[i] = took[i][len(took[i])/10]
		b.ReportMetric(quick[i], "ns/get-"+k.name)
		if k.base != i {
			b.ReportMetric(100*(quick[i]/quick[k.base]-1), "%-"+k.name)
		}
	}
}

// BenchmarkAuthorize measures the decision alone.
func BenchmarkAuthorize(b *testing.B) {
	a := accesstest.New()
	a.Grant("reader", auth.Grant{Role: auth.Read, Databases: []string{"db"}, Prefixes: [][]byte{[]byte("a/"), []byte("k/")}})
	req := &serverpb.GetRequest{Key: []byte("k/12345678")}
	for name, guard := range map[string]*access.Guard{
		"open":  access.NewGuard(access.Options{Exposure: access.Protected}),
		"token": access.NewGuard(access.Options{Authenticator: a, Database: "db"}),
	} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, func(o *Options) { o.Access = guard })
			_, _ = r.Get(b.Context(), req) // opens a connection
			k := &call{Context: b.Context(), calls: r.calls, conn: r.calls.conns()[0], begun: time.Now(),
				header: metadata.Pairs("authorization", "Bearer reader")}
			k.method = r.calls.methods[serverpb.DKV_Get_FullMethodName]
			b.ReportAllocs()
			for b.Loop() {
				if k.authorize(k.method) != nil || k.permit(req) != nil {
					b.Fatal("rejected")
				}
			}
		})
	}
}

// BenchmarkWaitingForMemory is what thousands of responses cost while they wait for memory that
// others hold: the processor's time in each of the pauses between two looks for it.
func BenchmarkWaitingForMemory(b *testing.B) {
	c := &conn{calls: &calls{wire: newWire(64<<20, 1<<20)}}
	c.calls.wire.held.Add(c.calls.wire.limit)
	ctx, cancel := context.WithCancel(b.Context())
	const all = 3000
	ended := waits(ctx, c, 1<<20, all)
	for queued := 0; queued < all; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		queued = len(c.queue)
		c.mu.Unlock()
	}
	taken := func() time.Duration {
		var r unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	before := taken()
	for b.Loop() {
		time.Sleep(memoryPause)
	}
	b.ReportMetric(float64((taken()-before).Microseconds())/float64(b.N), "cpu-us/op")
	cancel()
	for range all {
		<-ended
	}
}
