// Package standbys has the answers of a node that may own logs wait for slaves: it joins the
// gates of its replicas, the call by which slaves confirm, and the keeper of the standing
// sets.
package standbys

import (
	"context"
	"sync"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/confirming"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/standby/confirm"
	"github.com/dkvdb/dkv/internal/standby/everywhere"
	"github.com/dkvdb/dkv/internal/standby/keeper"
	"github.com/dkvdb/dkv/internal/standby/witness"
)

// Standbys are those of a node. A nil one is that of a node whose answers wait for nothing:
// one of the registry.
type Standbys struct {
	node *node.Node
	logs []*confirm.Log
	kept []keeper.Log
	// all are what the other nodes have applied of the logs, replicas the logs' own.
	all      []*everywhere.Log
	replicas []Replica
	// pool are the connections to other nodes.
	pool *peer.Pool
	// wanted is raised when what is wanted of slaves may have changed.
	wanted  signal.Signal
	service *confirming.Service
	// record is the node's side of the record in the registry; nil without auto-promote-after.
	record *record
}

// New makes those of a node, before its replicas are opened.
func New(n *node.Node) *Standbys {
	if n.Config.Role == config.RoleDiscovery {
		return nil
	}
	s := &Standbys{node: n}
	for i, name := range n.Layout.VBuckets {
		l := confirm.New(confirm.Options{
			VBucket:  name,
			Level:    level(n.Config.Replication.Ack),
			FallBack: s.fallsBack(),
			Leases:   n.Config.Replication.AutoPromoteAfter > 0,
			Patience: n.Config.Nexus.ReplTimeout,
			Changed:  &s.wanted,
		})
		all := s.everyone(i, l)
		l.AwaitAlso(all)
		s.logs, s.all = append(s.logs, l), append(s.all, all)
	}
	s.replicas = make([]Replica, len(s.logs))
	s.kept = make([]keeper.Log, len(s.logs))
	s.service = confirming.New(s.logs, &s.wanted)
	n.OnClose(func() error { s.service.Close(); return nil })
	return s
}

// Open is called before the replicas are opened.
func (s *Standbys) Open() (err error) {
	if s == nil {
		return nil
	}
	calls, err := s.node.Calls()
	if err != nil {
		return err
	}
	s.pool = peer.NewPool(calls)
	s.node.OnClose(s.pool.Close)
	if s.node.Config.Replication.AutoPromoteAfter > 0 {
		s.record, err = newRecord(s)
	}
	return err
}

func (s *Standbys) fallsBack() bool {
	return s.node.Config.Replication.AckFallback == config.FallbackAsync
}

// level is the level that a node is configured with.
func level(a config.ReplicationAck) kv.Ack {
	switch a {
	case config.AckSemiSync:
		return kv.AckSemiSync
	case config.AckSync:
		return kv.AckSync
	case config.AckAll:
		return kv.AckAll
	default:
		return kv.AckAsync
	}
}

// Gate is that of a vBucket, by its position.
func (s *Standbys) Gate(i int) replica.Gate {
	if s == nil {
		return nil
	}
	if s.record != nil {
		return s.record.keeper.Gate(i, s.logs[i])
	}
	return s.logs[i]
}

// Record is the node's side of the record in the registry; nil if it needs none.
func (s *Standbys) Record() *witness.Keeper {
	if s == nil || s.record == nil {
		return nil
	}
	return s.record.keeper
}

// Replica is a replica that may own its log.
type Replica interface {
	replica.Replica
	confirm.State
}

// Bind joins a vBucket's gate with its replica, before that runs.
func (s *Standbys) Bind(i int, r Replica) {
	if s != nil {
		s.logs[i].Bind(r)
		s.replicas[i] = r
		s.kept[i] = keeper.Log{Log: s.logs[i], Propose: r.Propose, Everyone: s.all[i]}
	}
}

// Service is the call by which slaves confirm.
func (s *Standbys) Service() role.Standby {
	if s == nil {
		return role.Standby{}
	}
	return role.Standby{Confirming: s.service, Standing: s.standingHere, Database: s.node.Layout.Database}
}

// Run keeps the standing sets until ctx ends.
func (s *Standbys) Run(ctx context.Context) {
	if s == nil {
		return
	}
	cfg := &s.node.Config.Replication
	opts := keeper.Options{
		Logs:       s.kept,
		Level:      level(cfg.Ack),
		DC:         cfg.AckDC(),
		Timeout:    cfg.AckTimeout,
		FallBack:   s.fallsBack(),
		Deployment: s.node.Info.Cluster,
		Log:        s.node.Log,
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.record != nil {
		opts.Leases, opts.Record, opts.Standing = true, s.record.keeper, s.record.standing
		wg.Go(func() { s.record.run(ctx) })
	}
	keeper.New(opts).Run(ctx)
}
