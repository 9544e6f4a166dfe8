package fsm

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// discard is an engine whose writes cost nothing, so that a benchmark shows
// what the machine itself costs. Its reads are the memory engine's.
type discard struct{ storage.Engine }

func (discard) Write(*storage.Batch, bool) error { return nil }

const benchKeys = 1 << 14

func benchKey(i int) []byte {
	k := []byte("bench-key-000000")
	binary.BigEndian.PutUint32(k[12:], uint32(i%benchKeys))
	return k
}

// benchWorkloads make the command that a benchmark applies to its i-th key.
var benchWorkloads = []struct {
	name    string
	request bool
	make    func(m kv.Mutation) command.Command
}{
	{"put", false, func(m kv.Mutation) command.Command {
		return command.Command{Kind: command.Write, Mutations: []kv.Mutation{m}}
	}},
	{"put+request", true, func(m kv.Mutation) command.Command {
		return command.Command{Kind: command.Write, Mutations: []kv.Mutation{m}}
	}},
	{"put+ttl", false, func(m kv.Mutation) command.Command {
		m.ExpireTS = 1 << 40
		return command.Command{Kind: command.Write, Mutations: []kv.Mutation{m}}
	}},
	{"cas", false, func(m kv.Mutation) command.Command {
		return command.Command{Kind: command.CompareAndSet, Expect: m.Value, Mutations: []kv.Mutation{m}}
	}},
}

// BenchmarkApply applies batches; ns/put is the share of one command.
func BenchmarkApply(b *testing.B) {
	for _, w := range benchWorkloads {
		for _, size := range []int{1, 32, 256} {
			b.Run(fmt.Sprintf("%s/batch=%d", w.name, size), func(b *testing.B) {
				m := benchMachine(b)
				value := make([]byte, 128)
				commands := make([]command.Command, benchKeys)
				for i := range commands {
					commands[i] = w.make(kv.Mutation{Key: benchKey(i), Value: value})
				}
				entries := make([]Entry, size)
				results := make([]command.Result, size)
				b.ReportAllocs()
				puts := uint64(0)
				for b.Loop() {
					for i := range entries {
						c := &commands[puts%benchKeys]
						if w.request {
							seq := puts/32 + 1
							c.Request = kv.RequestID{Client: puts%32 + 1, Sequence: seq, Acked: seq - 1}
						}
						entries[i] = Entry{Index: benchKeys + 1 + puts, Command: c}
						puts++
					}
					if err := m.Apply(entries, results, false); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(puts), "ns/put")
			})
		}
	}
}

// benchMachine holds all keys of the benchmarks, with the value that they put.
func benchMachine(b *testing.B) *Machine {
	engine := openMemory(b)
	m := newMachine(b, engine)
	value := make([]byte, 128)
	var entries []Entry
	for i := range benchKeys {
		c := &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: benchKey(i), Value: value}}}
		entries = append(entries, Entry{Index: uint64(i) + 1, Command: c})
	}
	if err := m.Apply(entries, make([]command.Result, len(entries)), false); err != nil {
		b.Fatal(err)
	}
	m.engine = discard{engine}
	return m
}

func BenchmarkGet(b *testing.B) {
	m := benchMachine(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, found, err := m.Get(benchKey(i), 0); err != nil || !found {
			b.Fatal(found, err)
		}
		i++
	}
}

// BenchmarkChanges asks for what a reader that is up to date lacks.
func BenchmarkChanges(b *testing.B) {
	m := benchMachine(b)
	b.ReportAllocs()
	for b.Loop() {
		if c, err := m.Changes(benchKeys+1, 1000, 1<<20); err != nil || len(c.Changes) != 0 {
			b.Fatal(len(c.Changes), err)
		}
	}
}

func BenchmarkGetParallel(b *testing.B) {
	m := benchMachine(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, found, err := m.Get(benchKey(i), 0); err != nil || !found {
				b.Error(found, err)
			}
		}
	})
}

// BenchmarkApplyBesideHostileClient applies one put of an ordinary client, and
// before it one of a client that has sent many already, with sequences far up and
// promises that fall.
func BenchmarkApplyBesideHostileClient(b *testing.B) {
	m := benchMachine(b)
	const many, from = 1 << 18, 1 << 40
	value := make([]byte, 128)
	next := m.Applied()
	apply := func(id kv.RequestID) {
		next++
		c := &command.Command{Kind: command.Write, Clock: start, Request: id}
		c.Mutations = []kv.Mutation{{Key: benchKey(int(next)), Value: value}}
		if err := m.Apply([]Entry{{Index: next, Command: c}}, make([]command.Result, 1), false); err != nil {
			b.Fatal(err)
		}
	}
	hostile, honest := uint64(0), uint64(0)
	attack := func() {
		hostile++
		apply(kv.RequestID{Client: 666, Sequence: from + hostile, Acked: from - hostile})
	}
	for range many {
		attack()
	}
	for b.Loop() {
		attack()
		honest++
		apply(kv.RequestID{Client: 7, Sequence: honest, Acked: honest - 1})
	}
}
