package fsm

import (
	"fmt"
	"math"
	"math/rand/v2"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

// A source makes the choices of a random test: a seeded generator, rapid, or
// the bytes of a fuzz input.
type source interface {
	// intn returns a number in [0, n).
	intn(n int) int
}

type seeded struct{ *rand.Rand }

func newSeeded(seed uint64) seeded { return seeded{rand.New(rand.NewPCG(seed, 0))} }

func (s seeded) intn(n int) int { return s.IntN(n) }

type drawn struct{ *rapid.T }

func (d drawn) intn(n int) int { return rapid.IntRange(0, n-1).Draw(d.T, "choice") }

// input takes choices from bytes; behind their end all are 0.
type input struct{ p []byte }

func (i *input) intn(n int) int {
	if len(i.p) == 0 {
		return 0
	}
	b := i.p[0]
	i.p = i.p[1:]
	return int(b) % n
}

// generator makes command sequences in which everything that the state machine
// tells apart happens: few keys, near expiries, clocks that jitter and now and
// then leap or are set back, repeated, mistaken and stale requests, pauses, and
// commands of an owner that was deposed, whose clock is ahead.
type generator struct {
	source
	keys     int
	clients  int
	clock    kv.Clock
	sequence map[uint64]uint64
	// sent is what was asked under an id, but for the promise.
	sent    map[kv.RequestID]command.Command
	pausing bool
	sealing []byte // the promotion of the last seal, which ends soon
	// expires is the expiry of the last put of each key that has one.
	expires map[string]uint64
}

func newGenerator(s source, keys int) *generator {
	return &generator{source: s, keys: keys, clients: 3, clock: start, sequence: make(map[uint64]uint64), sent: make(map[kv.RequestID]command.Command), expires: make(map[string]uint64)}
}

// command returns the next command.
func (g *generator) command() *command.Command {
	c := &command.Command{Kind: command.Write, Clock: g.tick()}
	if g.sealing != nil && g.intn(12) == 0 { // a seal is short, as a pause is
		c.Kind, c.Expect = command.Unseal, g.sealing
		g.sealing = nil
		return c
	}
	switch kind := g.intn(24); {
	case kind < 9:
		for range 1 + g.intn(4) {
			c.Mutations = append(c.Mutations, g.mutation())
		}
	case kind < 12:
		c.Kind = command.CompareAndSet
		c.Expect = g.value()
		c.Mutations = []kv.Mutation{g.put()}
	case kind < 15:
		c.Kind = command.Increment
		c.Delta = []int64{1, -1, 7, math.MaxInt64, math.MinInt64, 0}[g.intn(6)]
		c.Mutations = []kv.Mutation{{Key: g.key(), ExpireTS: g.expiry()}}
	case kind < 19:
		c.Kind = command.Expire
		for range 1 + g.intn(6) {
			c.Mutations = append(c.Mutations, g.expired())
		}
	case kind < 23:
		return g.timing(c)
	default:
		// A pause is short, or little else would happen.
		c.Kind = command.SetPaused
		c.Flag = g.intn(4) == 0
		g.pausing = c.Flag
		return c
	}
	if g.pausing && g.intn(4) == 0 {
		g.pausing = false
		return &command.Command{Kind: command.SetPaused, Clock: c.Clock}
	}
	c.Request = g.request()
	return g.again(c)
}

// timing makes of c a command that is about nothing but the clock, or may not touch
// it.
func (g *generator) timing(c *command.Command) *command.Command {
	switch g.intn(13) {
	case 10:
		c.Kind, c.Expect, c.Delta = command.SetStandbys, []byte("standbys"), int64(g.intn(2))
		c.Clock += decade
	case 11:
		c.Kind, c.Expect = command.Seal, [][]byte{[]byte("p"), []byte("q")}[g.intn(2)]
		if g.sealing == nil {
			g.sealing = c.Expect
		}
		c.Clock += decade
	case 12:
		c.Kind, c.Expect = command.Unseal, [][]byte{[]byte("p"), []byte("q")}[g.intn(2)]
		c.Clock += decade
	case 9:
		c.Kind, c.Expect, c.Delta = command.SetTiming, []byte("timing"), int64(g.intn(2))
		c.Clock += decade
	case 8:
		c.Kind, c.Delta = command.SetFormat, int64(1+g.intn(3))
		c.Clock += decade
	case 0:
		c.Kind = command.SetClock
		c.Clock -= kv.Clock(g.intn(8000))
		g.clock = c.Clock
	case 1:
		c.Kind, c.Member = command.SetMember, &command.Member{ID: uint64(g.intn(3)), Record: g.value()}
		c.Clock += decade
	case 2, 3:
		c.Mutations, c.Fence = []kv.Mutation{g.mutation()}, 1 // there was no such epoch
		c.Clock += decade
		c.Request = g.request()
	default:
		c.Kind = command.Tick
	}
	return c
}

// again is mostly what was asked under the same id before, if there was
// something: a retry, and now and then a mistake.
func (g *generator) again(c *command.Command) *command.Command {
	if c.Request.IsZero() {
		return c
	}
	id := c.Request
	id.Acked, id.Repeat = 0, false
	if first, ok := g.sent[id]; ok && g.intn(4) != 0 {
		first.Clock, first.Request = c.Clock, c.Request
		return &first
	}
	g.sent[id] = *c
	return c
}

// tick moves the proposers' clock, not always forwards.
func (g *generator) tick() kv.Clock {
	switch g.intn(64) {
	case 0:
		g.clock += kv.Clock(requests.DefaultBounds().Age.Milliseconds()) / 2
	case 1:
		return g.clock - kv.Clock(g.intn(2000))
	default:
		g.clock += kv.Clock(g.intn(200))
	}
	return g.clock
}

func (g *generator) key() []byte { return fmt.Appendf(nil, "k%d", g.intn(g.keys)) }

func (g *generator) value() []byte {
	return [][]byte{
		nil, []byte("1"), []byte("22"), []byte(counter(1)), []byte(counter(math.MaxInt64)), []byte("longer than a counter"),
	}[g.intn(6)]
}

// expiry is often none, else near to the present second, on either side.
func (g *generator) expiry() uint64 {
	if g.intn(2) == 0 {
		return 0
	}
	return uint64(int64(g.clock/1000) + int64(g.intn(8)) - 2)
}

func (g *generator) put() kv.Mutation {
	m := kv.Mutation{Key: g.key(), Value: g.value(), ExpireTS: g.expiry()}
	if m.ExpireTS != 0 {
		g.expires[string(m.Key)] = m.ExpireTS
	}
	return m
}

// expired is the removal of a key at an expiry that it mostly has.
func (g *generator) expired() kv.Mutation {
	m := kv.Mutation{Key: g.key(), Delete: true}
	if m.ExpireTS = g.expires[string(m.Key)]; m.ExpireTS == 0 || g.intn(4) == 0 {
		m.ExpireTS = g.expiry()
	}
	return m
}

func (g *generator) mutation() kv.Mutation {
	if g.intn(3) == 0 {
		return kv.Mutation{Key: g.key(), Delete: true}
	}
	return g.put()
}

// request is none, a new one, or one that was there before or may have been.
func (g *generator) request() kv.RequestID {
	choice := g.intn(4)
	if choice < 2 {
		return kv.RequestID{}
	}
	client := uint64(g.intn(g.clients)) + 1
	if choice == 2 || g.sequence[client] == 0 {
		g.sequence[client]++
	}
	seq := g.sequence[client]
	again := choice == 3 && g.intn(2) == 0
	if choice == 3 {
		seq -= min(seq-1, uint64(g.intn(4)))
	}
	acked := seq - min(seq, uint64(1+g.intn(4)))
	if g.intn(3) == 0 {
		acked = 0 // a client that is slow to acknowledge
	}
	return kv.RequestID{Client: client, Sequence: seq, Acked: acked, Repeat: again}
}

// entries returns n entries from index on; some are without a command.
func (g *generator) entries(index kv.Index, n int) []Entry {
	out := make([]Entry, n)
	for i := range out {
		out[i].Index = index + uint64(i)
		if g.intn(32) != 0 {
			out[i].Command = g.command()
		}
	}
	return out
}

// split cuts entries into batches of random sizes up to most.
func split(s source, entries []Entry, most int) [][]Entry {
	var out [][]Entry
	for len(entries) > 0 {
		n := min(len(entries), 1+s.intn(most))
		out = append(out, entries[:n])
		entries = entries[n:]
	}
	return out
}
