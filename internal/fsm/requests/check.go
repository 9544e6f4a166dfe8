package requests

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/storage"
)

// Check compares the table with what Load reads from r, and its lists and sums with each
// other. Tests call it after every batch.
func (t *Table) Check(r storage.Reader) error {
	stored, err := Load(r, t.bounds)
	if err != nil {
		return err
	}
	for _, table := range []*Table{t, stored} {
		if err := table.checkSums(); err != nil {
			return err
		}
	}
	if len(t.entries) != len(stored.entries) || len(t.sessions) != len(stored.sessions) || t.lost != stored.lost {
		return fmt.Errorf("%d results of %d clients, lost %d; stored are %d of %d, lost %d",
			len(t.entries), len(t.sessions), t.lost, len(stored.entries), len(stored.sessions), stored.lost)
	}
	for a, b := t.order.first, stored.order.first; a != nil; a, b = a.after, b.after {
		if a.plain() != b.plain() {
			return fmt.Errorf("result %+v is stored as %+v", a.plain(), b.plain())
		}
	}
	for a, b := t.clients.first, stored.clients.first; a != nil; a, b = a.after, b.after {
		if a.plain() != b.plain() {
			return fmt.Errorf("client %+v is stored as %+v", a.plain(), b.plain())
		}
	}
	return nil
}

// plain returns e without its links.
func (e *entry) plain() entry {
	out := *e
	out.session, out.before, out.after, out.next = nil, nil, nil, nil
	return out
}

func (s *session) plain() session {
	out := *s
	out.first, out.last, out.before, out.after = nil, nil, nil, nil
	return out
}

// checkSums walks all lists and compares them with the sums.
func (t *Table) checkSums() error {
	entries, bytes, sessions := 0, 0, 0
	for e := t.order.first; e != nil; e = e.after {
		if t.entries[e.name] != e || t.sessions[e.name.client] != e.session {
			return fmt.Errorf("result %+v is not found by its name", e.plain())
		}
		entries++
		bytes += e.bytes
	}
	used := uint64(0)
	for s := t.clients.first; s != nil; s = s.after {
		if t.sessions[s.client] != s || s.used < used || s.changed {
			return fmt.Errorf("client %+v follows one that was used at %d, or is not stored", s.plain(), used)
		}
		used = s.used
		count, size := 0, 0
		for e := s.first; e != nil; e = e.next {
			count++
			size += e.bytes
		}
		if count != s.count || size != s.bytes {
			return fmt.Errorf("client %+v has %d results of %d bytes", s.plain(), count, size)
		}
		sessions++
		entries -= count
	}
	if entries != 0 || bytes != t.bytes || sessions != len(t.sessions) {
		return fmt.Errorf("%d results belong to no client; %d bytes of %d, %d clients of %d", entries, bytes, t.bytes, sessions, len(t.sessions))
	}
	return nil
}
