package standbys

import (
	"context"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/replica"
)

// lagging is a replica that has applied what was committed once a majority was asked.
type lagging struct {
	Replica
	committed, applied []fsm.ListedSlave
	voters             []replica.Peer
}

func (l *lagging) Membership(context.Context) (replica.Membership, error) {
	l.applied = slices.Clone(l.committed)
	return replica.Membership{Peers: l.voters}, nil
}

func (l *lagging) Slaves(context.Context) ([]fsm.ListedSlave, error) { return l.applied, nil }

func (l *lagging) list(address string) {
	l.committed = append(l.committed, fsm.ListedSlave{Slave: command.Slave{Address: address}})
}

// TestLevelAllKnowsEachListedSlave although this node lags in the first vBucket's log, which has
// the list, and although the list has changed a moment ago.
func TestLevelAllKnowsEachListedSlave(t *testing.T) {
	for i := range 2 {
		first := new(lagging)
		first.voters = []replica.Peer{{Voting: true, Member: replica.Member{Address: "self:1"}}, {Voting: true, Member: replica.Member{Address: "m2:1"}}}
		second := &lagging{voters: first.voters}
		n := new(node.Node)
		n.Info.Address = "self:1"
		o := &others{standbys: &Standbys{node: n, replicas: []Replica{first, second}}, i: i}
		want := []string{"m2:1"}
		for _, slave := range []string{"s1:1", "s2:1"} {
			first.list(slave)
			want = append(want, slave)
			if got, err := o.addresses(t.Context()); err != nil || !slices.Equal(got, want) {
				t.Errorf("vBucket %d: %q, %v; want %q", i, got, err, want)
			}
		}
	}
}
