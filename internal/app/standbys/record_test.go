package standbys

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/confirm"
	"github.com/dkvdb/dkv/internal/standby/keeper"
	"github.com/dkvdb/dkv/internal/standby/witness"
)

// state is the state of a log in which nothing is written.
type state struct {
	set   standby.Set
	owned bool
	// tenure is that of its owner.
	tenure uint64
	// is what the replica is doing.
	is replica.State
	// rejects is why nothing is accepted by the log; nil if something is.
	rejects error
}

func (s *state) Standbys() ([]byte, kv.Index)            { return s.set.Record(), 1 }
func (s *state) LastEffect() kv.Index                    { return 1 }
func (s *state) Tenure() uint64                          { return s.tenure }
func (s *state) State() replica.State                    { return s.is }
func (s *state) Shown(context.Context) (kv.Index, error) { return 1, nil }
func (s *state) History() string                         { return "h" }
func (s *state) Owner() replica.Owner                    { return replica.Owner{Self: s.owned} }

// with returns the standbys of a node that owns some logs.
func with(states ...*state) *Standbys {
	s := new(Standbys)
	for i, one := range states {
		l := confirm.New(confirm.Options{VBucket: string(rune('0' + i))})
		l.Bind(one)
		s.logs = append(s.logs, l)
		s.kept = append(s.kept, keeper.Log{Log: l, Propose: func(context.Context, *command.Command) (command.Result, error) {
			return command.Result{Code: command.NotUpdated}, one.rejects
		}})
	}
	return s
}

func set(phase standby.Phase, leased bool) standby.Set {
	return standby.Set{Level: kv.AckSync, Leased: leased, Registered: true, Nodes: []standby.Node{{Disk: "d", Address: "s:1", Phase: phase}}}
}

// Masters that the release before has promoted as a set keep their record, which names them by the
// promotion.
func TestMastersAreNamedAsTheirRecordNamesThem(t *testing.T) {
	m := witness.Masters{Era: 2, Deployment: "cluster"}
	for _, c := range []struct {
		found           *peerpb.Record
		promotion, want string
	}{
		{nil, "p", "cluster"},
		{&peerpb.Record{Era: 2, Deployment: "p"}, "p", "p"},
		{&peerpb.Record{Era: 2, Deployment: "p"}, "", "cluster"},
		{&peerpb.Record{Era: 3, Deployment: "p"}, "p", "cluster"},
		{&peerpb.Record{Era: 2, Deployment: "q"}, "p", "cluster"},
	} {
		if got := namedBy(c.found, m, c.promotion); got != c.want {
			t.Errorf("%v of promotion %q: %q, want %q", c.found, c.promotion, got, c.want)
		}
	}
}

// TestReplicasThatTakeNoPartAreNotOwned: one that was removed names itself, and accepts nothing. The
// other logs of its node are asked nevertheless.
func TestReplicasThatTakeNoPartAreNotOwned(t *testing.T) {
	for is, want := range map[replica.State]bool{replica.Serving: true, replica.Restoring: true, replica.Removed: false, replica.Failed: false} {
		second := &state{owned: true, is: is}
		logs := first{with(&state{owned: true, is: replica.Serving}, second, &state{is: replica.Serving})}.Logs()
		if !logs[0].Owned() || logs[1].Owned() != want || logs[2].Owned() {
			t.Errorf("%s: %t %t %t", is, logs[0].Owned(), logs[1].Owned(), logs[2].Owned())
		}
		if _, err := logs[0].Ask(t.Context()); err != nil {
			t.Errorf("%s: %v", is, err)
		}
	}
}

// TestTheRecordHasTheLeastLevel of the logs.
func TestTheRecordHasTheLeastLevel(t *testing.T) {
	semi := set(standby.Standing, true)
	semi.Level = kv.AckSemiSync
	for _, c := range []struct {
		second standby.Set
		want   kv.Ack
	}{{set(standby.Standing, true), kv.AckSync}, {semi, kv.AckSemiSync}} {
		r := &record{Standbys: with(&state{set: set(standby.Standing, true), owned: true}, &state{set: c.second, owned: true})}
		if got, err := r.standing(t.Context(), standby.Node{Disk: "d", Address: "s:1"}); err != nil || got != c.want {
			t.Errorf("%v, %v; want %v", got, err, c.want)
		}
	}
}

// TestALogIsAskedLinearizably: what it rejects it does not answer from its own state.
func TestALogIsAskedLinearizably(t *testing.T) {
	s := &state{set: set(standby.Standing, true), owned: true}
	l := first{with(s)}.Logs()[0]
	if got, err := l.Ask(t.Context()); err != nil || !got.Registered || len(got.Nodes) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	s.rejects = errors.New("another node owns it")
	if _, err := l.Ask(t.Context()); !errors.Is(err, s.rejects) {
		t.Error(err)
	}
}

// TestOnlyLeasedLogsHaveAStandbyInTheRecord: an owner that needs no lease takes it out of its log
// without the record.
func TestOnlyLeasedLogsHaveAStandbyInTheRecord(t *testing.T) {
	for _, leased := range []bool{true, false} {
		logs := []*state{{set: set(standby.Standing, true), owned: true}, {set: set(standby.Standing, leased), owned: true}}
		r := &record{Standbys: with(logs...)}
		_, err := r.standing(t.Context(), standby.Node{Disk: "d", Address: "s:1"})
		if (err == nil) != leased || err != nil && !strings.Contains(err.Error(), "need the lease") {
			t.Errorf("leased %t: %v", leased, err)
		}
	}
}
