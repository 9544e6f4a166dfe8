package fsm

import (
	"encoding/binary"
	"slices"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
)

// modelRequests is the model of the request table: lists that are searched.
type modelRequests struct {
	bounds requests.Bounds
	// results are in the order of the log, clients in that of their last use.
	results []modelRequest
	clients []modelClient
	lost    uint64
}

type modelRequest struct {
	id     kv.RequestID
	asked  string
	clock  uint64
	result command.Result
}

type modelClient struct {
	id, acked, forgotten, clock, lost uint64
}

func (r *modelRequests) client(id uint64) *modelClient {
	for i := range r.clients {
		if r.clients[i].id == id {
			return &r.clients[i]
		}
	}
	return nil
}

func (r *modelRequests) age() uint64 { return uint64(r.bounds.Age.Milliseconds()) }

// answered is the result of a request that is not applied.
func (r *modelRequests) answered(c *command.Command, index kv.Index, now uint64) (command.Result, bool) {
	id := c.Request
	for _, old := range r.results {
		switch {
		case old.id.Client != id.Client || old.id.Sequence != id.Sequence:
		case old.asked != asked(c):
			return command.Result{Index: index, Code: command.RequestMismatch}, true
		default:
			return old.result, true
		}
	}
	lost := r.lost
	if known := r.client(id.Client); known != nil {
		lost = min(lost, known.lost)
		if id.Sequence <= known.acked {
			return command.Result{Index: index, Code: command.StaleRequest}, true
		}
		if id.Sequence <= known.forgotten {
			return command.Result{Index: index, Code: command.TooLate}, true
		}
	}
	if id.Repeat && lost != 0 && now < lost+r.age() {
		return command.Result{Index: index, Code: command.TooLate}, true
	}
	return command.Result{}, false
}

// size is what a result counts in the bounds: its key, its record and a constant.
func (m *modelRequest) size() int {
	p := binary.AppendUvarint(nil, m.id.Sequence)
	p = binary.AppendUvarint(p, m.id.Acked)
	p = binary.AppendUvarint(p, m.clock)
	p = binary.AppendUvarint(p, m.result.Index)
	p = binary.AppendVarint(p, m.result.Counter)
	return 16 + 192 + 1 + 8 + 8 + 2 + len(p)
}

// sum counts the results of a client, or of all for 0.
func (r *modelRequests) sum(client uint64) (count, bytes int) {
	for i := range r.results {
		if client == 0 || r.results[i].id.Client == client {
			count++
			bytes += r.results[i].size()
		}
	}
	return count, bytes
}

func (r *modelRequests) remember(m modelRequest) {
	now := modelClient{id: m.id.Client, lost: r.lost}
	if known := r.client(m.id.Client); known != nil {
		now = *known
	}
	now.acked, now.clock = max(now.acked, m.id.Acked), m.clock
	r.clients = append(slices.DeleteFunc(r.clients, func(c modelClient) bool { return c.id == m.id.Client }), now)
	r.results = append(r.results, m)
	r.lost = min(r.lost, m.clock)
	for range 8 {
		if !r.shrink(&r.clients[len(r.clients)-1], m.clock) {
			return
		}
	}
}

// shrink removes one thing, if there is one to remove.
func (r *modelRequests) shrink(c *modelClient, now uint64) bool {
	own := slices.IndexFunc(r.results, func(m modelRequest) bool { return m.id.Client == c.id })
	count, bytes := r.sum(c.id)
	_, all := r.sum(0)
	switch {
	case own >= 0 && r.results[own].id.Sequence <= c.acked:
		r.results = slices.Delete(r.results, own, own+1)
	case count > r.bounds.ClientEntries || bytes > r.bounds.ClientBytes:
		r.forget(own)
	case len(r.results) > 0 && (all > r.bounds.Bytes || now >= r.results[0].clock+r.age()):
		r.forget(0)
	case len(r.clients) > r.bounds.Sessions:
		idle := r.clients[0]
		if i := slices.IndexFunc(r.results, func(m modelRequest) bool { return m.id.Client == idle.id }); i >= 0 {
			r.forget(i)
			break
		}
		r.lost = max(r.lost, min(idle.clock, now))
		r.clients = slices.Delete(r.clients, 0, 1)
	default:
		return false
	}
	return true
}

func (r *modelRequests) forget(i int) {
	id := r.results[i].id
	if c := r.client(id.Client); id.Sequence > c.acked {
		c.forgotten = max(c.forgotten, id.Sequence)
	}
	r.results = slices.Delete(r.results, i, i+1)
}

func (r *modelRequests) compare(t failer, m *Machine) {
	t.Helper()
	_, bytes := r.sum(0)
	got := m.Requests()
	if got.Entries != uint64(len(r.results)) || got.Sessions != uint64(len(r.clients)) || got.Bytes < uint64(bytes) {
		t.Fatalf("remembered is %+v, want %d results of %d bytes and %d clients", got, len(r.results), bytes, len(r.clients))
	}
	for i := range r.results {
		want := &r.results[i]
		c := &command.Command{Request: want.id}
		c.Request.Repeat = true
		// Another request under its id, so that it is refused and nothing changes.
		res, known := m.requests.Lookup(c, 1<<50, kv.Clock(want.clock))
		if !known || res.Code != command.RequestMismatch {
			t.Fatalf("request %+v is not remembered: %+v", want, res)
		}
	}
}
