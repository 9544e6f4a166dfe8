package slave

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/slave/source"
)

// named returns the leader of the state's history according to discovery, the last one if it
// names no master any more; empty if it names other masters only, or is unavailable.
func (p *Puller) named() string {
	if !p.opts.Sources.Live() {
		return ""
	}
	id, _ := p.opts.State.Position()
	return source.Leader(p.opts.Sources.Candidates(p.opts.VBucket), id)
}

// lead sets the leader's address; empty while it is unknown.
func (p *Puller) lead(address string) {
	was := p.leader.Swap(&address)
	p.opts.State.SetLeader(address)
	if *was != address {
		p.directed.Raise()
		p.moved()
	}
}

// leaderInterval is the time between two questions to a master for the leader.
const leaderInterval = time.Second

// watchLeader keeps the leader's address current: at once when discovery names another
// one, and each second from the master, which learns of a dead leader sooner than
// discovery, and also while discovery is unavailable. What the master has told another vBucket's
// puller half a second ago does too, unless discovery has named another one since.
func (s *session) watchLeader(ctx context.Context) error {
	t := time.NewTicker(leaderInterval)
	defer t.Stop()
	last := ""
	for {
		changed := s.opts.Sources.Changed()
		named, since := s.named(), time.Now()
		switch {
		case named == last:
			since = since.Add(-leaderInterval / 2)
		case named != "":
			s.lead(named)
		}
		if last = named; !s.askLeader(ctx, named, since) {
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

// askLeader asks the master for the leader, or takes what it has answered since a time. If the master
// knows none, the leader is the one that discovery names, if any. If the master does not answer, the known leader stays.
// askLeader returns false when ctx has ended.
func (s *session) askLeader(ctx context.Context, named string, since time.Time) bool {
	limited, cancel := context.WithTimeout(ctx, minPatience)
	defer cancel()
	resp, err := s.opts.Statuses.of(limited, s.peer, since)
	for _, v := range resp.GetVBuckets() {
		if err != nil || v.GetVBucket() != s.opts.VBucket || v.GetHistoryId() != s.history {
			continue
		}
		if leader := v.GetLeader(); leader != "" {
			named = leader
		}
		s.lead(named)
		s.status.masterIs(s.source.Address, v.GetUnhealthy())
	}
	return ctx.Err() == nil
}
