package confirm

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby"
)

// fakeState is a log whose record a test sets.
type fakeState struct {
	record  atomic.Pointer[record]
	last    atomic.Uint64
	tenure  atomic.Uint64
	history atomic.Pointer[string]
	owner   atomic.Pointer[replica.Owner]
}

type record struct {
	raw     []byte
	changed kv.Index
}

func newState() *fakeState {
	s := &fakeState{}
	s.record.Store(&record{})
	s.in("h")
	s.last.Store(1000)
	s.owner.Store(&replica.Owner{Self: true, ID: 1})
	return s
}

func (s *fakeState) Standbys() ([]byte, kv.Index)            { r := s.record.Load(); return r.raw, r.changed }
func (s *fakeState) LastEffect() kv.Index                    { return s.last.Load() }
func (s *fakeState) Tenure() uint64                          { return s.tenure.Load() }
func (s *fakeState) State() replica.State                    { return replica.Serving }
func (s *fakeState) Shown(context.Context) (kv.Index, error) { return s.LastEffect(), nil }
func (s *fakeState) History() string                         { return *s.history.Load() }
func (s *fakeState) Owner() replica.Owner                    { return *s.owner.Load() }

func (s *fakeState) in(history string) { s.history.Store(&history) }

// list makes the standing set that of some disks.
func (s *fakeState) list(set standby.Set, disks ...string) {
	for _, d := range disks {
		set.Nodes = append(set.Nodes, standby.Node{Disk: d, Address: d + ":1", Phase: standby.Standing})
	}
	s.record.Store(&record{set.Record(), s.record.Load().changed + 1})
}

// open makes a log whose set lists some disks at a level.
func open(t *testing.T, opts Options, disks ...string) (*Log, *fakeState) {
	t.Helper()
	s := newState()
	l := New(opts)
	l.Bind(s)
	if len(disks) > 0 {
		s.list(standby.Set{Level: opts.Level}, disks...)
	}
	return l, s
}

func link(disk string, start uint64) *Link {
	return NewLink(Slave{Disk: disk, Start: start, Address: disk + ":1", Durable: true})
}

// confirms has a slave confirm an index of history h.
func confirms(t *testing.T, l *Log, k *Link, received, synced kv.Index) {
	t.Helper()
	if err := l.Confirm(k, Position{History: "h", Received: received, Applied: synced, Synced: synced}); err != nil {
		t.Fatal(err)
	}
}
