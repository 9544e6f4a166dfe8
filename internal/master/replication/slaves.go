package replication

import (
	"context"
	"slices"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

// maxSlaves bounds the list of slaves, which is part of every snapshot and is sent to every Go
// client.
const maxSlaves = 1024

var (
	addReplicaCall    = route.Call{Method: serverpb.DKVReplication_AddReplica_FullMethodName, Mutates: true}
	removeReplicaCall = route.Call{Method: serverpb.DKVReplication_RemoveReplica_FullMethodName, Mutates: true}
)

// AddReplica implements DKVReplication. Adding a slave that is on the list renews its entry;
// see SlaveExpiry.
func (s *Service) AddReplica(ctx context.Context, r *serverpb.Replica) (*serverpb.Status, error) {
	return s.setSlave(ctx, addReplicaCall, r, true)
}

// RemoveReplica implements DKVReplication. Removing a slave that is not on the list succeeds.
func (s *Service) RemoveReplica(ctx context.Context, r *serverpb.Replica) (*serverpb.Status, error) {
	return s.setSlave(ctx, removeReplicaCall, r, false)
}

// setSlave changes the list, which is kept in the log of the first vBucket.
func (s *Service) setSlave(ctx context.Context, c route.Call, r *serverpb.Replica, keep bool) (*serverpb.Status, error) {
	slave, err := slaveOf(r)
	if err != nil {
		return nil, err
	}
	v := s.keyspace.All()[0]
	return route.AtOwner(ctx, s.router, v, c, r, func(ctx context.Context) (*serverpb.Status, error) {
		unlock, err := s.lockList(ctx)
		if err != nil {
			return nil, err
		}
		defer unlock()
		if keep {
			switch done, err := s.listed(ctx, v, slave); {
			case err != nil:
				return nil, err
			case done:
				return &serverpb.Status{}, nil
			}
		}
		if _, err := v.Propose(ctx, &command.Command{Kind: command.SetSlave, Expect: slave.Append(nil), Flag: keep}); err != nil {
			return nil, route.WithOutcome(err)
		}
		return &serverpb.Status{}, nil
	})
}

// lockList waits until no other call on this node changes the list, and keeps others out until
// unlock is called.
func (s *Service) lockList(ctx context.Context) (unlock func(), err error) {
	select {
	case s.listing <- struct{}{}:
		return func() { <-s.listing }, nil
	case <-ctx.Done():
		return nil, route.WithOutcome(kv.Errorf(kv.Unavailable, "other changes of the list of slaves are under way: %w; retry", ctx.Err()))
	}
}

// listed reports whether a slave's entry is so recent that renewing it is not worth a log
// entry. A slave that would make the list too long is rejected.
func (s *Service) listed(ctx context.Context, v route.VBucket, slave command.Slave) (bool, error) {
	slaves, err := v.Slaves(ctx)
	if err != nil {
		return false, route.WithOutcome(err)
	}
	i := slices.IndexFunc(slaves, func(l fsm.ListedSlave) bool { return l.Slave == slave })
	switch {
	case i >= 0:
		age := ageOf(slaves[i], v.Now())
		return age != unknownAge && age < slaveRenewed, nil
	case len(slaves) >= maxSlaves:
		return false, route.WithOutcome(kv.Errorf(kv.Exhausted,
			"%d slaves are on the list, which is the limit; remove those that are gone, or wait: a slave that is not heard from for %v is removed", len(slaves), SlaveExpiry))
	default:
		return false, nil
	}
}

// GetReplicas implements DKVReplication. The positions are those that slaves have told this
// node. Expired entries are left out even before they are removed.
func (s *Service) GetReplicas(ctx context.Context, r *serverpb.GetReplicasRequest) (*serverpb.GetReplicasResponse, error) {
	v := s.keyspace.All()[0]
	slaves, err := v.Slaves(ctx)
	if err != nil {
		return nil, err
	}
	resp, now := &serverpb.GetReplicasResponse{}, v.Now()
	for _, slave := range slaves {
		if r.GetZone() != "" && slave.Zone != r.GetZone() || s.expired(slave, now) {
			continue
		}
		out := replicaOf(slave.Slave)
		if applied, since, known := s.followers.at(slave.Slave, v.Name); known {
			out.ChangeNumber, out.SinceMillis = applied, max(uint64(since.Milliseconds()), 1)
		}
		resp.Replicas = append(resp.Replicas, out)
	}
	return resp, nil
}
