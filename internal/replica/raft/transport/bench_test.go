package transport

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// BenchmarkMessages measures a connection for messages in the clear beside one with TLS, by
// the bytes of the entry in each message. Rounds of the two take turns, so that the machine's
// other load is that of both. It reports the time and the processor's time of a message, of
// both ends together.
func BenchmarkMessages(b *testing.B) {
	for _, size := range []int{128, 4 << 10, 256 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			authority := tlskit.New(b)
			lines := []*measured{
				{name: "clear", pair: newPair(b, nil)},
				{name: "tls", pair: newPair(b, issued(b, authority).open(b, certs.Required))},
			}
			messages := max(8, 4<<20/(size+4<<10))
			for b.Loop() {
				for _, l := range lines {
					l.round(b, batch(1, size), messages)
				}
			}
			for _, l := range lines {
				n := float64(b.N * messages)
				b.ReportMetric(float64(l.wall)/n, l.name+"-ns/message")
				b.ReportMetric(float64(l.cpu)/n, l.name+"-cpu-ns/message")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// pair is two transports with a connection between them.
type pair struct {
	line raftio.IConnection
	come chan struct{}
}

func newPair(b *testing.B, store *certs.Store) pair {
	p := pair{come: make(chan struct{}, 1<<10)}
	start := func(messages func(raftpb.MessageBatch)) *transport {
		c := config.NodeHostConfig{RaftAddress: testkit.Address(b), DeploymentID: deployment}
		t := New(Options{Certs: store, limits: quick}).Create(c, messages, func(raftpb.Chunk) bool { return true }).(*transport)
		if err := t.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = t.Close() })
		return t
	}
	to := start(func(raftpb.MessageBatch) { p.come <- struct{}{} })
	line, err := start(func(raftpb.MessageBatch) {}).GetConnection(b.Context(), to.address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(line.Close)
	p.line = line
	return p
}

// measured is a pair with what its rounds have taken.
type measured struct {
	pair
	name      string
	wall, cpu time.Duration
}

// round sends messages and waits until they have come.
func (m *measured) round(b *testing.B, message raftpb.MessageBatch, n int) {
	begun, used := time.Now(), processorTime(b)
	for range n { // fewer than come has room for
		if err := m.line.SendMessageBatch(message); err != nil {
			b.Fatal(err)
		}
	}
	for range n {
		<-m.come
	}
	m.wall += time.Since(begun)
	m.cpu += processorTime(b) - used
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
