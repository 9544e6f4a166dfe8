package requests

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// attacks are what clients may send to make a table slow or large, the i-th
// request of each.
var attacks = map[string]func(i uint64) *command.Command{
	"promises that fall": func(i uint64) *command.Command { return request(666, 1<<40+i, 1<<40-1-i) },
	"no promises":        func(i uint64) *command.Command { return request(666, i+1, 0) },
	"falling sequences":  func(i uint64) *command.Command { return request(666, 1<<40-i, 0) },
	"a promise for many": func(i uint64) *command.Command { return request(666, i+1, i/1000*1000) },
	"a gap that stays":   func(i uint64) *command.Command { return request(666, i*2+2, 1) },
	"many clients":       func(i uint64) *command.Command { return request(1000+i, 1, 0) },
	"many busy clients":  func(i uint64) *command.Command { return request(1000+i%1000, i/1000+1, 0) },
	"clients by turns": func(i uint64) *command.Command {
		return request(1000+i%10_000, i/10_000+1, i/10_000)
	},
	"random clients": func(i uint64) *command.Command {
		random := rand.New(rand.NewPCG(1, i))
		seq := 1 + random.Uint64N(1<<20)
		return request(1000+random.Uint64N(1<<14), seq, random.Uint64N(seq))
	},
}

// Whatever a client sends, a request takes a bounded number of operations, the
// table stays within its bounds, and others notice nothing but that their results
// may be forgotten, which is never taken for a new request. apply counts operations.
func TestHostileClients(t *testing.T) {
	const many = 25_000 // more than any bound
	bounds := DefaultBounds()
	bounds.Bytes, bounds.Sessions = 4<<20, 1<<13
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, bounds)
			r.unchecked = true
			r.engine = discard{r.engine}
			honest := uint64(0)
			for i := range uint64(many) {
				r.apply(attack(i))
				if i%64 != 0 {
					continue
				}
				// One request after the other, each repeated once.
				honest++
				c := request(7, honest, honest-1)
				r.answered(repeated(c), r.fresh(c))
			}
			if err := r.table.checkSums(); err != nil {
				t.Error(err)
			}
			stats := r.table.Stats()
			if r.table.bytes > r.bounds.Bytes || int(stats.Sessions) > r.bounds.Sessions {
				t.Errorf("beyond the bounds: %+v", stats)
			}
			for _, s := range []uint64{666, 1000, 7} {
				if s := r.table.sessions[s]; s != nil && (s.count > r.bounds.ClientEntries || s.bytes > r.bounds.ClientBytes) {
					t.Errorf("client %d has %d results of %d bytes", s.client, s.count, s.bytes)
				}
			}
		})
	}
}

// The sessions that are too many while busy ones go are bounded too.
func TestBusySessionsGoInTime(t *testing.T) {
	bounds := DefaultBounds()
	bounds.Sessions = 100
	r := newRig(t, bounds)
	r.unchecked = true
	r.engine = discard{r.engine}
	for client := range uint64(100) {
		for seq := range uint64(300) {
			r.apply(request(client+1, seq+1, 0))
		}
	}
	most := uint64(0)
	for client := range uint64(7000) {
		r.apply(request(client+1000, 1, 0))
		most = max(most, r.table.Stats().Sessions)
	}
	// Each of them adds one and removes the rest of what it may.
	if limit := uint64(100 + 100*300/(removals-2) + 1); most > limit {
		t.Errorf("there were %d clients at a time, want at most %d", most, limit)
	}
	r.sessions(100)
}

// discard is an engine that keeps nothing.
type discard struct{ storage.Engine }

func (discard) Write(*storage.Batch, bool) error { return nil }

// BenchmarkHostileClient measures an ordinary client's request after one of each
// attack, in a table that the attack has filled.
func BenchmarkHostileClient(b *testing.B) {
	for name, attack := range attacks {
		b.Run(fmt.Sprint(name), func(b *testing.B) {
			t, err := Load(newRig(b, DefaultBounds()).engine, DefaultBounds())
			if err != nil {
				b.Fatal(err)
			}
			var batch storage.Batch
			index := kv.Index(0)
			apply := func(c *command.Command) {
				index++
				batch.Reset()
				if _, known := t.Lookup(c, index, start); !known {
					t.Add(&batch, c, command.Result{Index: index}, start)
				}
				t.Flush(&batch)
			}
			i, honest := uint64(0), uint64(0)
			for ; i < 1<<18; i++ {
				apply(attack(i))
			}
			b.ReportAllocs()
			for b.Loop() {
				apply(attack(i))
				i++
				honest++
				apply(request(7, honest, honest-1))
			}
		})
	}
}
