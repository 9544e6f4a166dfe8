package slave

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
)

// named returns who leads the state's history as discovery tells; empty where it does
// not, or tells only what it knew once.
func (p *Puller) named() string {
	if !p.opts.Sources.Live() {
		return ""
	}
	id, _ := p.opts.State.Position()
	return leaderOf(p.opts.Sources.Candidates(p.opts.VBucket), id)
}

// lead says who leads; empty while that is unknown.
func (p *Puller) lead(address string) {
	p.leader.Store(&address)
	p.opts.State.SetLeader(address)
}

// leaderInterval is how often a master is asked who leads.
const leaderInterval = time.Second

// watchLeader keeps the state told of who leads: at once when discovery names another
// one, and each second as the master says, which knows sooner than discovery that the
// one before is dead, and knows also while discovery is away.
func (s *session) watchLeader(ctx context.Context) error {
	t := time.NewTicker(leaderInterval)
	defer t.Stop()
	last := ""
	for {
		changed := s.opts.Sources.Changed()
		named := s.named()
		if named != last && named != "" {
			s.lead(named)
		}
		if last = named; !s.askLeader(ctx, named) {
			return nil
		}
		for waiting := true; waiting; {
			select {
			case <-changed:
				changed = s.opts.Sources.Changed()
				waiting = s.named() == last
			case <-t.C:
				waiting = false
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// askLeader has the master tell who leads; where it knows nobody, it is whom discovery
// names, if any. Where it does not answer, what is known stays. It returns false when
// ctx has ended.
func (s *session) askLeader(ctx context.Context, named string) bool {
	limited, cancel := context.WithTimeout(ctx, minPatience)
	defer cancel()
	resp := new(serverpb.NodeStatusResponse)
	err := s.peer.Invoke(limited, serverpb.DKVNode_GetNodeStatus_FullMethodName, new(emptypb.Empty), resp)
	for _, v := range resp.GetVBuckets() {
		if err != nil || v.GetVBucket() != s.opts.VBucket || v.GetHistoryId() != s.history {
			continue
		}
		if leader := v.GetLeader(); leader != "" {
			named = leader
		}
		s.lead(named)
	}
	return ctx.Err() == nil
}
