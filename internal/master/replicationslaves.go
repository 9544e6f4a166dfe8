package master

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// maxSlaves bounds the list of slaves, which every snapshot carries.
const maxSlaves = 4096

var (
	addReplicaCall    = call{method: serverpb.DKVReplication_AddReplica_FullMethodName, mutates: true}
	removeReplicaCall = call{method: serverpb.DKVReplication_RemoveReplica_FullMethodName, mutates: true}
)

// AddReplica implements DKVReplication. Adding what is on the list succeeds.
func (s *Replication) AddReplica(ctx context.Context, r *serverpb.Replica) (*serverpb.Status, error) {
	return s.setSlave(ctx, addReplicaCall, r, true)
}

// RemoveReplica implements DKVReplication. Removing what is not on the list
// succeeds.
func (s *Replication) RemoveReplica(ctx context.Context, r *serverpb.Replica) (*serverpb.Status, error) {
	return s.setSlave(ctx, removeReplicaCall, r, false)
}

// setSlave changes the list, which the first vBucket's log keeps.
func (s *Replication) setSlave(ctx context.Context, c call, r *serverpb.Replica, keep bool) (*serverpb.Status, error) {
	slave, err := slaveOf(r)
	if err != nil {
		return nil, err
	}
	v := s.keyspace.All()[0]
	return atOwner(ctx, s.router, v, c, r, func(ctx context.Context) (*serverpb.Status, error) {
		if keep {
			if err := roomFor(ctx, v, slave); err != nil {
				return nil, err
			}
		}
		_, err := v.Propose(ctx, &command.Command{Kind: command.SetSlave, Expect: slave.Append(nil), Flag: keep})
		if err != nil {
			return nil, withOutcome(err)
		}
		return ok(), nil
	})
}

// roomFor refuses a slave that would make the list too long.
func roomFor(ctx context.Context, v VBucket, slave command.Slave) error {
	slaves, err := v.Slaves(ctx)
	if err != nil {
		return withOutcome(err)
	}
	if len(slaves) >= maxSlaves && !slices.Contains(slaves, slave) {
		return withOutcome(kv.Errorf(kv.Exhausted, "%d slaves are on the list, which is the limit; remove those that are gone", len(slaves)))
	}
	return nil
}

// GetReplicas implements DKVReplication. The positions are those that slaves have
// told this node.
func (s *Replication) GetReplicas(ctx context.Context, r *serverpb.GetReplicasRequest) (*serverpb.GetReplicasResponse, error) {
	v := s.keyspace.All()[0]
	slaves, err := v.Slaves(ctx)
	if err != nil {
		return nil, err
	}
	resp := &serverpb.GetReplicasResponse{}
	for _, slave := range slaves {
		if r.GetZone() != "" && slave.Zone != r.GetZone() {
			continue
		}
		out := replicaOf(slave)
		if applied, since, known := s.followers.at(slave, v.Name); known {
			out.ChangeNumber, out.SinceMillis = applied, max(uint64(since.Milliseconds()), 1)
		}
		resp.Replicas = append(resp.Replicas, out)
	}
	return resp, nil
}

const (
	maxZone = 255
	// maxHostname is the longest name that DNS has.
	maxHostname = 253
	maxPort     = 65535
)

// slaveOf checks and converts who a slave is.
func slaveOf(r *serverpb.Replica) (command.Slave, error) {
	host, port := r.GetHostname(), r.GetPort()
	switch {
	case len(r.GetZone()) > maxZone || strings.ContainsFunc(r.GetZone(), unicode.IsControl):
		return command.Slave{}, kv.Errorf(kv.Invalid, "zone %.64q is no name; use up to %d bytes without control characters", r.GetZone(), maxZone)
	case host == "":
		return command.Slave{}, kv.Errorf(kv.Invalid, "hostname is empty; say where the slave serves")
	case len(host) > maxHostname || strings.ContainsFunc(host, noHostname):
		return command.Slave{}, kv.Errorf(kv.Invalid, "hostname %.64q is neither a name nor an address", host)
	case port == 0 || port > maxPort:
		return command.Slave{}, kv.Errorf(kv.Invalid, "port %d is none; ports go from 1 to %d", port, maxPort)
	}
	return command.Slave{Zone: r.GetZone(), Address: net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))}, nil
}

// noHostname tells whether a character can be neither in a name nor in an address.
func noHostname(r rune) bool {
	return unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune("[]/@?#", r)
}

// replicaOf is the reverse of slaveOf.
func replicaOf(s command.Slave) *serverpb.Replica {
	out := &serverpb.Replica{Zone: s.Zone, Hostname: s.Address}
	if host, text, err := net.SplitHostPort(s.Address); err == nil {
		if port, err := strconv.ParseUint(text, 10, 16); err == nil {
			out.Hostname, out.Port = host, uint32(port)
		}
	}
	return out
}
