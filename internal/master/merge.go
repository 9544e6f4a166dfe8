package master

import (
	"bytes"

	"github.com/dkvdb/dkv/internal/kv"
)

// iterator walks live pairs in key order, or in the reverse of it.
type iterator interface {
	// Next moves to the next pair, and reports whether there is one.
	Next() bool
	// Pair is the present pair; its slices are valid until Next is called.
	Pair() kv.Pair
	// Err is why Next has returned false before the end.
	Err() error
}

// source is an iterator that has to be closed.
type source interface {
	iterator
	Close()
}

// merge iterates over several sources in key order. No key is in two of them.
type merge struct {
	// heap has the source with the next pair at 0. Sources that have ended are
	// removed.
	heap    []source
	reverse bool
	begun   bool
	err     error
}

func newMerge(sources []source, reverse bool) *merge {
	return &merge{heap: append(make([]source, 0, len(sources)), sources...), reverse: reverse}
}

func (m *merge) Next() bool {
	if !m.begun {
		m.begin()
	} else if m.err == nil && len(m.heap) > 0 {
		m.advance()
	}
	return m.err == nil && len(m.heap) > 0
}

// begin advances all sources to their first pairs.
func (m *merge) begin() {
	m.begun = true
	live := m.heap[:0]
	for _, s := range m.heap {
		if s.Next() {
			live = append(live, s)
		} else if m.err = s.Err(); m.err != nil {
			return
		}
	}
	m.heap = live
	for i := len(live)/2 - 1; i >= 0; i-- {
		m.sink(i)
	}
}

// advance advances the source that the last pair came from.
func (m *merge) advance() {
	s := m.heap[0]
	if !s.Next() {
		if m.err = s.Err(); m.err != nil {
			return
		}
		last := len(m.heap) - 1
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
	}
	m.sink(0)
}

// sink restores the order of the heap below i.
func (m *merge) sink(i int) {
	for {
		next := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(m.heap); child++ {
			if m.before(child, next) {
				next = child
			}
		}
		if next == i {
			return
		}
		m.heap[i], m.heap[next] = m.heap[next], m.heap[i]
		i = next
	}
}

func (m *merge) before(i, j int) bool {
	c := bytes.Compare(m.heap[i].Pair().Key, m.heap[j].Pair().Key)
	if m.reverse {
		return c > 0
	}
	return c < 0
}

func (m *merge) Pair() kv.Pair { return m.heap[0].Pair() }

func (m *merge) Err() error { return m.err }
