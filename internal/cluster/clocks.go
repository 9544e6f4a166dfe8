package cluster

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// clockInterval is how often the members' wall clocks are read, and clockHaste how
	// often while fewer than a majority are known.
	clockInterval = time.Second
	clockHaste    = 100 * time.Millisecond
	// clockCall is how long a member may take to return its time.
	clockCall = 500 * time.Millisecond
)

// compareClocks reads the members' wall clocks at intervals, and logs once when one is
// off and once when it is right again.
func (c *Cluster) compareClocks(ctx context.Context) {
	off := make(map[uint64]bool)
	for ctx.Err() == nil {
		c.hearClocks(ctx)
		for _, m := range c.Clocks() {
			if m.Off != off[m.ID] {
				off[m.ID] = m.Off
				c.reportClock(m)
			}
		}
		pause := clockInterval
		if !c.clock.Known() {
			pause = clockHaste
		}
		periodic.Wait(ctx, pause)
	}
}

func (c *Cluster) reportClock(m MemberClock) {
	args := []any{"member", m.ID, "url", m.URL, "ahead", m.Ahead.Round(time.Millisecond)}
	switch {
	case !m.Off:
		c.log.Info("the clock of a member agrees with a majority's again", args...)
	case m.Self:
		c.log.Error("THIS NODE'S CLOCK IS OFF: a majority of the members have another time, and it counts only up to max-clock-jump from theirs; "+
			"set it right", args...)
	default:
		c.log.Warn("the clock of a member is off: a majority have another time; set it right", args...)
	}
}

// hearClocks reads the members' wall clocks.
func (c *Cluster) hearClocks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, clockCall)
	defer cancel()
	c.countVotes(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	for id, member := range c.records() {
		if id != c.self.Replica && member.Address != "" {
			asking.Go(func() {
				if err := c.hearClock(ctx, id, member.Address); err != nil {
					c.log.Debug("a member's clock cannot be read", "member", id, "error", err)
				}
			})
		}
	}
}

// countVotes tells the clock which members vote. That must come from a majority, since
// the records in a log do not say which members vote.
func (c *Cluster) countVotes(ctx context.Context) {
	c.mu.Lock()
	known := c.known
	c.mu.Unlock()
	if len(known.Peers) == 0 {
		var err error
		if known, err = c.membership(ctx); err != nil {
			return
		}
	}
	var voters []uint64
	ids := make(map[uint64]bool)
	for _, p := range known.Peers {
		ids[p.ID] = true
		if p.Voting {
			voters = append(voters, p.ID)
		}
	}
	c.clock.Vote(c.self.Replica, voters, func(id uint64) bool { return ids[id] })
}

// hearClock reads the wall clock of the member at an address.
func (c *Cluster) hearClock(ctx context.Context, id uint64, address string) error {
	p, err := c.pool.Reach(ctx, address) // not part of the time that the answer takes
	if err != nil {
		return err
	}
	resp := new(peerpb.TimeResponse)
	sent := c.clock.Elapsed()
	if err := p.Invoke(ctx, peerpb.Members_Time_FullMethodName, &peerpb.TimeRequest{Deployment: c.self.Deployment, To: id}, resp); err != nil {
		return err
	}
	c.clock.Hear(id, time.UnixMicro(resp.GetWallMicros()), sent, c.clock.Elapsed())
	return nil
}

// Time implements Members.
func (c *Cluster) Time(_ context.Context, r *peerpb.TimeRequest) (*peerpb.TimeResponse, error) {
	if err := c.isAsked(r.GetDeployment(), r.GetTo()); err != nil {
		return nil, err
	}
	return &peerpb.TimeResponse{WallMicros: c.clock.Wall().UnixMicro()}, nil
}

// isAsked returns an error unless this is the replica of the cluster that a member means
// to ask: another node may have taken over its address.
func (c *Cluster) isAsked(deployment, replica uint64) error {
	if deployment == c.self.Deployment && replica == c.self.Replica {
		return nil
	}
	return kv.Errorf(kv.Precondition, "this is replica %d of cluster %016x, not replica %d of %016x",
		c.self.Replica, c.self.Deployment, replica, deployment)
}

// MemberClock is a member's wall clock as this node sees it.
type MemberClock struct {
	clock.Member
	// URL is the member's Raft url; empty while that is unknown.
	URL  string
	Self bool
}

// Name is how the member is called in metrics.
func (m MemberClock) Name() string { return strconv.FormatUint(m.ID, 10) }

// Fault says what is wrong with the clock; empty if nothing is.
func (m MemberClock) Fault() string {
	if !m.Off {
		return ""
	}
	side := "ahead of"
	if m.Ahead < 0 {
		side = "behind"
	}
	return fmt.Sprintf("the clock of member %d (%s) is %s %s what a majority of the members' clocks say; set it right",
		m.ID, m.URL, span(m.Ahead.Abs()), side)
}

// span returns a duration in words that an operator reads at a glance.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		return fmt.Sprintf("%d days", d.Round(day)/day)
	}
	return d.Round(time.Second).String()
}

// Clocks lists the wall clocks of the members that are known, this node's among them.
func (c *Cluster) Clocks() []MemberClock {
	urls := make(map[uint64]string)
	for _, p := range c.lastKnown().Peers {
		urls[p.ID] = bootstrap.FormatURL(p.Address)
	}
	var out []MemberClock
	for _, m := range c.clock.Members() {
		out = append(out, MemberClock{Member: m, URL: urls[m.ID], Self: m.ID == c.self.Replica})
	}
	return out
}

// clockPatience is how long the addition of a node waits for the clocks of a majority, as just after
// the cluster has begun, or on a busy machine.
const clockPatience = 2 * time.Second

// sameTime returns an error if the clock of a node that is to be added is further from
// the majority's than a member's may be.
func (c *Cluster) sameTime(ctx context.Context, url string, hello *bootstrap.Hello) error {
	wall, uncertain, told := hello.Wall()
	if !told {
		return nil // an older release, which does not say
	}
	now, known := c.clock.Majority()
	for until := time.Now().Add(clockPatience); !known && time.Now().Before(until); {
		c.hearClocks(ctx)
		if now, known = c.clock.Majority(); !known && !sleep.For(ctx, clockPatience/20) {
			break
		}
	}
	if !known {
		return kv.Errorf(kv.Unavailable, "the clocks of a majority of the members are not known to this node yet, so that the clock of %s cannot be compared with them; retry", url)
	}
	off := wall.Sub(now)
	if off.Abs()-uncertain <= c.clock.MaxJump() {
		return nil
	}
	const layout = "2006-01-02T15:04:05.000Z"
	return kv.Errorf(kv.Precondition, "the clock of the node at %s says %s, but a majority of the members' clocks say %s: %s apart, and max-clock-jump is %v; "+
		"set its clock right, then add it again", url, wall.UTC().Format(layout), now.UTC().Format(layout), span(off.Abs()), c.clock.MaxJump())
}
