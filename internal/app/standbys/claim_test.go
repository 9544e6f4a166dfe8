package standbys

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/confirm"
	"github.com/dkvdb/dkv/internal/standby/keeper"
)

// written is a log whose standing set can be changed; the journal has what was.
type written struct {
	state
	name    string
	journal *[]string
	owner   string

	mu      sync.Mutex
	changed kv.Index
}

func (w *written) Standbys() ([]byte, kv.Index) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.set.Record(), w.changed
}

func (w *written) Owner() replica.Owner {
	if w.owner == unknown {
		return replica.Owner{}
	}
	return replica.Owner{Self: w.owner == "", Address: w.owner}
}

func (w *written) propose(_ context.Context, c *command.Command) (command.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.owner != "" {
		return command.Result{}, replica.ErrNotOwner
	}
	next, err := standby.DecodeSet(c.Expect)
	if err != nil || c.Delta != int64(w.changed) {
		return command.Result{Code: command.NotUpdated}, err
	}
	w.set, w.changed = next, w.changed+1
	*w.journal = append(*w.journal, w.name)
	return command.Result{}, nil
}

// unknown is the owner of a log that has none at present.
const unknown = "?"

// leasedAt returns the standbys of a node, and the journal; the logs need the lease, and have
// owners that are empty for the node itself.
func leasedAt(owners ...string) (*Standbys, *[]string) {
	s, journal := new(Standbys), new([]string)
	for i, owner := range owners {
		w := &written{name: string(rune('0' + i)), journal: journal, owner: owner, changed: 1}
		w.set = set(standby.Standing, true)
		l := confirm.New(confirm.Options{VBucket: w.name})
		l.Bind(w)
		s.logs, s.kept = append(s.logs, l), append(s.kept, keeper.Log{Log: l, Propose: w.propose})
	}
	return s, journal
}

// TestEachOwnerEndsTheLeasesOfItsLogs: leaders are spread over the nodes. The record is emptied
// before each log and after the last.
func TestEachOwnerEndsTheLeasesOfItsLogs(t *testing.T) {
	for _, c := range []struct {
		owners  []string
		journal []string
		text    string
	}{
		{[]string{"", ""}, []string{"empty", "0", "empty", "1", "empty"}, "remove auto-promote-after from all nodes"},
		{[]string{"", "b:1", ""}, []string{"empty", "0", "empty", "2", "empty"}, "repeat this at the owners of the others: 1 (b:1)"},
	} {
		s, journal := leasedAt(c.owners...)
		text, err := s.endLeases(t.Context(), func() error { *journal = append(*journal, "empty"); return nil })
		if err != nil || !strings.Contains(text, c.text) || !slices.Equal(*journal, c.journal) {
			t.Errorf("%q: %q, %v, %q", c.owners, text, err, *journal)
		}
		if _, err := s.endLeases(t.Context(), nil); kv.KindOf(err) != kv.Precondition {
			t.Errorf("%q again: %v", c.owners, err)
		}
	}
}

// TestNoLeaseEndsBeforeTheRecordIsEmpty, nor at an owner that does not know whether the first
// vBucket's owner has begun.
func TestNoLeaseEndsBeforeTheRecordIsEmpty(t *testing.T) {
	down := errors.New("the registry is down")
	s, journal := leasedAt("", "")
	if _, err := s.endLeases(t.Context(), func() error { return down }); !errors.Is(err, down) || len(*journal) > 0 {
		t.Errorf("%v, %q", err, *journal)
	}
	s, journal = leasedAt(unknown, "")
	if _, err := s.endLeases(t.Context(), nil); kv.KindOf(err) != kv.Unavailable || len(*journal) > 0 {
		t.Errorf("%v, %q", err, *journal)
	}
}
