package rowcache_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

// engine is what the simulation knows of one: the pairs that it shows at this moment.
type engine struct {
	rows *rowcache.Rows
	data map[string][]byte
}

func (e *engine) apply(b *storage.Batch) {
	_ = b.Each(func(op storage.Op) error {
		switch {
		case op.Space != storage.Data:
		case op.Kind == storage.OpPut:
			e.data[string(op.Key)] = bytes.Clone(op.Value)
		case op.Kind == storage.OpDelete:
			delete(e.data, string(op.Key))
		default:
			for k := range e.data {
				if k >= string(op.Key) && k < string(op.Value) {
					delete(e.data, k)
				}
			}
		}
		return nil
	})
}

// simulation runs readers and writers, a step of one of them at a time.
type simulation struct {
	t       *testing.T
	rand    *rand.Rand
	engines []*engine
	ranges  int // one of so many mutations deletes a range
	written int
	hits    int
}

const simulatedKeys = 24

func (s *simulation) key() []byte { return fmt.Appendf(nil, "key-%02d", s.rand.IntN(simulatedKeys)) }

func (s *simulation) engine() *engine { return s.engines[s.rand.IntN(len(s.engines))] }

// reader returns the steps of one read: each returns the next one, or nil at the end.
func (s *simulation) reader() step {
	e, key := s.engine(), s.key()
	return func() step {
		value, miss := e.rows.Get(key)
		if value != nil {
			s.hits++
			if want, there := e.data[string(key)]; !there || !bytes.Equal(value, want) {
				s.t.Fatalf("%s has a row of %.12q, and the engine %.12q (%v)", key, value, want, there)
			}
			return nil
		}
		return func() step {
			value, there := e.data[string(key)]
			if !there {
				return nil
			}
			return func() step {
				e.rows.Add(key, value, miss)
				return nil
			}
		}
	}
}

type step func() step

// writer returns the steps of one write.
func (s *simulation) writer() step {
	e := s.engine()
	var b storage.Batch
	for range 1 + s.rand.IntN(3) {
		switch n := s.rand.IntN(40); {
		case s.rand.IntN(s.ranges) == 0:
			from := s.key()
			b.DeleteRange(storage.Data, from, append(bytes.Clone(from[:len(from)-1]), '9'+1))
		case n < 8:
			b.Delete(storage.Data, s.key())
		case n < 12:
			b.Put(storage.Meta, s.key(), []byte("elsewhere"))
		default:
			s.written++
			value := fmt.Appendf(nil, "%d ", s.written)
			b.Put(storage.Data, s.key(), append(value, make([]byte, s.rand.IntN(3<<10))...))
		}
	}
	failed := s.rand.IntN(10) == 0
	w := new(rowcache.Write)
	return func() step {
		if err := w.Begin(e.rows, &b); err != nil {
			s.t.Fatal(err)
		}
		return func() step {
			if !failed {
				e.apply(&b)
			}
			return func() step {
				w.End()
				return nil
			}
		}
	}
}

// TestRowsAreWhatTheEngineShows runs reads and writes of two engines in every order that chance
// finds, and compares each row that is found with what its engine shows at that moment.
func TestRowsAreWhatTheEngineShows(t *testing.T) {
	for seed := range uint64(40) {
		c, err := rowcache.New(rowcache.MinBytes)
		if err != nil {
			t.Fatal(err)
		}
		s := &simulation{t: t, rand: rand.New(rand.NewPCG(seed, 1)), ranges: []int{4, 40, 400}[seed%3]}
		for range 2 {
			s.engines = append(s.engines, &engine{rows: c.Rows(), data: map[string][]byte{}})
		}
		var running []step
		for range 20_000 {
			if len(running) < 8 {
				begin := s.reader
				if s.rand.IntN(4) == 0 {
					begin = s.writer
				}
				running = append(running, begin())
			}
			i := s.rand.IntN(len(running))
			if running[i] = running[i](); running[i] == nil {
				running[i] = running[len(running)-1]
				running = running[:len(running)-1]
			}
		}
		if s.hits < 100 {
			t.Errorf("seed %d: only %d rows were found", seed, s.hits)
		}
		c.Close()
	}
}
