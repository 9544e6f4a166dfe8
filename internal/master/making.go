package master

import (
	"context"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/kv"
)

// makingAtOnce is how many messages of iterations are being made at once at most, and
// makingPerProcessor how many for each processor: some wait for the disk, and the others keep a
// thread busy. Until a message is sent no limit has seen how large it is, and each may be of the
// largest value that there is, which storage holds twice meanwhile.
const makingAtOnce, makingPerProcessor = 32, 4

func newMaking(processors int) *fair.Gate {
	return fair.New(min(makingAtOnce, makingPerProcessor*processors))
}

// making is one iteration's place among those that make a message: from the first pair of
// a message until it is sent, and not while its reader is waited for.
type making struct {
	gate *fair.Gate
	ctx  context.Context
	in   bool
	err  error
}

func (m *making) begin() bool {
	if !m.in {
		if err := m.gate.Enter(m.ctx, kv.PlaceOf(m.ctx).Client()); err != nil {
			m.err = kv.Errorf(kv.Unavailable, "waiting for other iterations: %w", err)
			return false
		}
		m.in = true
	}
	return true
}

func (m *making) end() {
	if m.in {
		m.in = false
		m.gate.Leave()
	}
}

// boundedPairs are pairs that are read within a place.
type boundedPairs struct {
	iterator
	*making
}

// Next implements iterator.
func (b boundedPairs) Next() bool { return b.begin() && b.iterator.Next() }

// Err implements iterator.
func (b boundedPairs) Err() error {
	if b.err != nil {
		return b.err
	}
	return b.iterator.Err()
}

// boundedStream gives the place back before it sends, and says what is held meanwhile.
type boundedStream struct {
	grpc.ServerStreamingServer[serverpb.IterateResponse]
	*making
	held func() int64
}

// Send implements grpc.ServerStreamingServer.
func (b boundedStream) Send(m *serverpb.IterateResponse) error {
	b.end()
	kv.PlaceOf(b.ctx).Holds(b.held())
	return b.ServerStreamingServer.Send(m)
}
