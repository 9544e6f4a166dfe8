package succession

import (
	"context"
	"testing"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby"
)

// owner is a master that owns the log of its only vBucket, which has a standing set.
type owner struct {
	role.Role
	set []byte
}

func (o owner) Name() string          { return "a master" }
func (o owner) Cluster() role.Cluster { return alone{} }
func (o owner) VBuckets() []role.VBucket {
	return []role.VBucket{{Name: "default", Replica: owned{set: o.set}}}
}

type alone struct{ role.Cluster }

func (alone) Peers() []cluster.Peer { return nil }

type owned struct {
	role.Replica
	set []byte
}

func (o owned) Owner() replica.Owner         { return replica.Owner{Self: true} }
func (o owned) Status() replica.Status       { return replica.Status{} }
func (o owned) Standbys() ([]byte, kv.Index) { return o.set, 1 }
func (o owned) Propose(context.Context, *command.Command) (command.Result, error) {
	return command.Result{Code: command.OK, Index: 7}, nil
}

// Whether masters need the record's lease is in their log, whatever their configuration says now.
func TestSealSaysWhatTheLogSaysOfTheRecord(t *testing.T) {
	for _, c := range []struct {
		set  []byte
		want bool
	}{
		{nil, false},
		{(&standby.Set{}).Record(), false},
		{(&standby.Set{Leased: true}).Record(), true},
		{(&standby.Set{Registered: true}).Record(), true},
		{[]byte("?"), true},
	} {
		n := &node.Node{Log: quiet}
		n.Layout.Database = "db"
		s := &Service{node: n, role: owner{set: c.set}}
		resp, err := s.SealDatabase(t.Context(), &peerpb.SealDatabaseRequest{Database: "db", Promotion: "p"})
		if err != nil || resp.GetLeased() != c.want || len(resp.GetVBuckets()) != 1 {
			t.Errorf("%s: %v, %v", c.set, resp, err)
		}
	}
}
