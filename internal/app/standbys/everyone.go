package standbys

import (
	"context"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby/confirm"
	"github.com/dkvdb/dkv/internal/standby/everywhere"
)

// askFor is how long a node may take to apply an index before it answers how far it is, and
// askWithin how long the whole question may take.
const (
	askFor    = 500 * time.Millisecond
	askWithin = 3 * time.Second
)

// everyone makes what the other nodes have applied of a vBucket's log, by its position.
func (s *Standbys) everyone(i int, l *confirm.Log) *everywhere.Log {
	name := l.VBucket()
	others := &others{standbys: s, i: i}
	out := everywhere.New(everywhere.Options{
		Roster: others.addresses,
		Ask: func(ctx context.Context, address string, index kv.Index) (everywhere.Position, error) {
			return s.askApplied(ctx, name, address, index)
		},
		History: l.History,
		Down:    l.Down,
	})
	s.node.OnClose(func() error { out.Close(); return nil })
	return out
}

// askApplied asks a node how far it has applied a vBucket's log.
func (s *Standbys) askApplied(ctx context.Context, vBucket, address string, index kv.Index) (out everywhere.Position, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	req := &peerpb.AwaitAppliedRequest{Database: s.node.Layout.Database, VBucket: vBucket, Index: index, WaitMillis: uint64(askFor.Milliseconds())}
	resp := new(peerpb.AwaitAppliedResponse)
	if err := s.pool.Call(ctx, address, peerpb.Standby_AwaitApplied_FullMethodName, req, resp); err != nil {
		return out, err
	}
	return everywhere.Position{History: resp.GetHistory(), Applied: resp.GetApplied()}, nil
}

// others are the nodes that keep a vBucket's log beside this one.
type others struct {
	standbys *Standbys
	i        int

	mu sync.Mutex
	// known are their addresses, as of at: when a majority began to be asked for them.
	known []string
	at    time.Time
}

// addresses returns where the other voting masters and the listed slaves serve gRPC, as of the
// call or later. Calls that wait for another one share the next answer.
func (o *others) addresses(ctx context.Context) ([]string, error) {
	called := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known != nil && o.at.After(called) {
		return o.known, nil
	}
	begun := time.Now()
	voters, err := o.voters(ctx)
	if err != nil {
		return nil, err
	}
	slaves, err := o.slaves(ctx)
	if err != nil {
		return nil, err
	}
	o.known, o.at = append(append(make([]string, 0, len(voters)+len(slaves)), voters...), slaves...), begun
	return o.known, nil
}

// members is a log that has several members.
type members interface {
	Membership(context.Context) (replica.Membership, error)
}

// slaves returns where the listed slaves serve gRPC. The list is in the log of the first
// vBucket, which this node may lag in: once a majority was asked for that log's members, all
// that was committed before is applied here.
func (o *others) slaves(ctx context.Context) (out []string, err error) {
	first := o.standbys.replicas[0]
	if log, is := first.(members); is && o.i > 0 {
		if _, err := log.Membership(ctx); err != nil {
			return nil, err
		}
	}
	listed, err := first.Slaves(ctx)
	if err != nil {
		return nil, err
	}
	for _, slave := range listed {
		out = append(out, slave.Address)
	}
	return out, nil
}

// voters returns where the other members with a vote serve gRPC; none if the log is of one node.
func (o *others) voters(ctx context.Context) (out []string, err error) {
	r := o.standbys.replicas[o.i]
	log, is := r.(members)
	if !is {
		return nil, nil
	}
	found, err := log.Membership(ctx)
	if err != nil {
		return nil, err
	}
	self := o.standbys.node.Info.Address
	for _, p := range found.Peers {
		switch {
		case !p.Voting || p.Member.Address == self:
		case p.Member.Address == "":
			return nil, kv.Errorf(kv.Unavailable, "member %d has not said yet where it serves; retry", p.ID)
		default:
			out = append(out, p.Member.Address)
		}
	}
	return out, nil
}
