package cluster

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
)

// confirmTime bounds how long a node that starts waits for what the other members know
// about its disk.
const confirmTime = 2 * time.Second

// Confirm compares the starts that this node and the other members know of each other,
// before this node takes part in the log. It asks all known members at the same time
// and leaves out those that do not answer: of two members, the one that starts later
// asks the other before they exchange anything else. The error wraps
// bootstrap.ErrOlderCopy or ErrTiming; the node must not start then.
func (c *Cluster) Confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	r := c.visitAll(ctx)
	if c.knowsNoOther() {
		c.awaitCall(ctx)
	}
	if err := c.retired.Load(); err != nil {
		return *err
	}
	if n := len(r.asked); n > 0 && len(r.met) == 0 {
		c.log.Info("no other member answers yet; whether this disk is the newest one of the node is checked when they do", "members", n)
	}
	if err := c.judgeTiming(false); err != nil {
		return err
	}
	c.confirmed.Store(int32(len(r.met)))
	return nil
}

// TakePart tells the members that answered Confirm, once, that this node takes part in
// the logs under its current start, which they record. Call it after every check that
// can show that the disk is an older copy, and before any vote: if they recorded a start
// that is rejected afterwards, they would take the newest disk, which does not know that
// start, for an older copy.
func (c *Cluster) TakePart(ctx context.Context) {
	c.takeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, confirmTime)
		defer cancel()
		c.takesPart.Store(true)
		if c.confirmed.Load() > 0 {
			c.visitAll(ctx)
		}
	})
}

// takesPartStill reports whether this node takes part in the logs under its current start, and
// has not been retired since: what others record of an older copy's start makes the newest disk
// look old.
func (c *Cluster) takesPartStill() bool { return c.takesPart.Load() && c.retired.Load() == nil }

// knowsNoOther reports whether this node was started before and still knows no other
// member's address: its data folder is from its first moments, or a copy from then, and
// the others may know of later starts.
func (c *Cluster) knowsNoOther() bool {
	if c.self.Past().Number <= 1 || len(c.self.Members) == 1 {
		return false
	}
	for id, m := range c.records() {
		if id != c.self.Replica && m.Address != "" {
			return false
		}
	}
	return true
}

// awaitCall waits until another member has asked this one, as each does every second.
func (c *Cluster) awaitCall(ctx context.Context) {
	select {
	case <-c.called:
	case <-ctx.Done():
	}
}

// round asks all members once, including those that only other members know of.
type round struct {
	c     *Cluster
	calls sync.WaitGroup

	mu    sync.Mutex
	asked map[string]bool
	met   map[uint64]bool
}

// visit meets the member at an address, unless this round has.
func (r *round) visit(ctx context.Context, id uint64, address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if address == "" || id == r.c.self.Replica || r.asked[address] {
		return
	}
	r.asked[address] = true
	r.calls.Go(func() {
		resp, err := r.c.meet(ctx, id, address)
		if err != nil {
			r.c.log.Debug("a member could not be asked about its starts", "member", id, "address", address, "error", err)
			return
		}
		r.mu.Lock()
		r.met[id] = true
		r.mu.Unlock()
		for id, address := range resp.GetAddresses() {
			r.visit(ctx, id, address)
		}
	})
}

// greet meets all known members, since an older copy may have started while none of
// those that could recognise it answered.
func (c *Cluster) greet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, watchCall)
	defer cancel()
	c.visitAll(ctx)
	c.noteAddresses()
}

// visitAll meets all members, and checks what the log says about this one.
func (c *Cluster) visitAll(ctx context.Context) *round {
	c.judgeSelf(c.heard()[c.self.Replica], "the log")
	r := &round{c: c, asked: make(map[string]bool), met: make(map[uint64]bool)}
	for _, known := range []map[uint64]string{c.addresses(), c.noted()} {
		for id, address := range known {
			r.visit(ctx, id, address)
		}
	}
	r.calls.Wait()
	for id, address := range c.otherAddresses() {
		if !r.met[id] {
			r.visit(ctx, id, address)
		}
	}
	r.calls.Wait()
	return r
}

// meet compares starts with the member at an address.
func (c *Cluster) meet(ctx context.Context, id uint64, address string) (*peerpb.MeetResponse, error) {
	resp := new(peerpb.MeetResponse)
	err := c.pool.Call(ctx, address, peerpb.Members_Meet_FullMethodName, &peerpb.MeetRequest{
		Deployment: c.self.Deployment, From: c.self.Replica, To: id, TakesPart: c.takesPartStill(),
		Past: pastMessage(c.self.Past()), Heard: startMessages(c.heard()[id]),
		Applied: c.applied(), Reached: c.reachedBy(id), Address: c.self.GRPC(),
	}, resp)
	if err != nil {
		return nil, err
	}
	by := source(id, address)
	c.judgeSelf(startsOf(resp.GetHeard()), by)
	c.judgeReached(resp.GetReached(), by)
	c.hearTiming(resp)
	c.judge(claim{id: id, past: pastOf(resp.GetPast()), takesPart: resp.GetTakesPart(), applied: resp.GetApplied()})
	return resp, nil
}

// source names the member that something was heard from, whichever side called.
func source(id uint64, address string) string {
	out := "member " + strconv.FormatUint(id, 10)
	if address != "" {
		out += " at " + address
	}
	return out
}

// Meet implements Members.
func (c *Cluster) Meet(_ context.Context, r *peerpb.MeetRequest) (*peerpb.MeetResponse, error) {
	if err := c.isAsked(r.GetDeployment(), r.GetTo()); err != nil {
		return nil, err
	}
	by := source(r.GetFrom(), cmp.Or(r.GetAddress(), c.addresses()[r.GetFrom()]))
	c.judgeSelf(startsOf(r.GetHeard()), by)
	c.judgeReached(r.GetReached(), by)
	defer c.callOnce.Do(func() { close(c.called) })
	before := c.reachedBy(r.GetFrom())
	heard := c.judge(claim{r.GetFrom(), pastOf(r.GetPast()), r.GetTakesPart(), r.GetApplied(), r.GetAddress()})
	resp := &peerpb.MeetResponse{
		Past: pastMessage(c.self.Past()), Heard: startMessages(heard), TakesPart: c.takesPartStill(),
		Addresses: c.addresses(), Applied: c.applied(), Reached: before,
	}
	c.tellTiming(resp)
	return resp, nil
}

// addresses returns the members' known gRPC addresses: those in the state, and for other
// members those that were recorded. A copy of the data folder from the node's first
// moments knows only the latter.
func (c *Cluster) addresses() map[uint64]string {
	out := c.noted()
	for id, member := range c.records() {
		if member.Address != "" {
			out[id] = member.Address
		}
	}
	return out
}

// noted returns the recorded addresses of members: those that they last named, or that
// were known before. The log may not have the address of a member that was restarted
// with another one.
func (c *Cluster) noted() map[uint64]string {
	out := c.self.Addresses()
	if out == nil {
		out = make(map[uint64]string)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.known.Removed {
		delete(out, id)
	}
	return out
}

// noteAddresses records the addresses of members that have none recorded.
func (c *Cluster) noteAddresses() {
	c.judging.Lock()
	defer c.judging.Unlock()
	next := c.noted()
	for id, address := range c.addresses() {
		if next[id] == "" {
			next[id] = address
		}
	}
	if err := c.self.SetAddresses(next); err != nil {
		c.log.Debug("the members' addresses cannot be recorded", "error", err)
	}
}

// otherAddresses returns where members that do not answer may serve gRPC now: a node may
// restart with another address, which is in no log before there is a majority. The host
// of its Raft address does not change.
func (c *Cluster) otherAddresses() map[uint64]string {
	out := make(map[uint64]string)
	for id, member := range c.records() {
		was, port, err := net.SplitHostPort(member.Address)
		if err != nil {
			continue
		}
		if host, _, err := net.SplitHostPort(member.RaftAddress); err == nil && host != was {
			out[id] = net.JoinHostPort(host, port)
		}
	}
	return out
}

// heard returns the starts that this node knows of, by replica: from the members
// themselves, and from the logs.
func (c *Cluster) heard() map[uint64][]bootstrap.Start {
	out := make(map[uint64][]bootstrap.Start)
	note := func(id uint64, s bootstrap.Start) {
		if !slices.Contains(out[id], s) {
			out[id] = append(out[id], s)
		}
	}
	for _, l := range c.logs {
		for id, m := range l.Members() {
			if m.Starts > 0 {
				note(id, bootstrap.Start{UUID: m.UUID, Number: m.Starts, ID: m.Start})
			}
		}
	}
	for id, s := range c.self.Heard() {
		note(id, s)
	}
	return out
}

// claim is what a member says about itself.
type claim struct {
	id        uint64
	past      bootstrap.Past
	takesPart bool
	applied   []kv.Index
	// address is where it serves gRPC; empty if it was asked, and may serve elsewhere too.
	address string
}

// judge checks that a member knows all of its starts that this node knows of, which it
// returns. If it does and takes part, what it says is recorded; if not, it learns the
// starts from the answer, or from the next question.
func (c *Cluster) judge(m claim) (heard []bootstrap.Start) {
	c.judging.Lock() // two copies may say something at the same moment
	defer c.judging.Unlock()
	heard = c.heard()[m.id]
	for _, s := range heard {
		if !m.past.Holds(s) {
			c.suspect(m.id, m.past.Last(), s)
			return heard
		}
	}
	if !m.takesPart || m.past.Number == 0 {
		return heard
	}
	c.hearReached(m.id, m.past.Last(), m.applied)
	err := c.self.Hear(m.id, m.past.Last())
	if err == nil && m.address != "" {
		addresses := c.noted()
		addresses[m.id] = m.address
		err = c.self.SetAddresses(addresses)
	}
	if err != nil {
		c.log.Warn("what a member says about itself cannot be recorded", "member", m.id, "error", err)
	}
	return heard
}

// suspect logs that a member's disk is an older copy, once for each of its starts. The
// caller holds judging.
func (c *Cluster) suspect(id uint64, present, heard bootstrap.Start) {
	if c.suspects[id] != present {
		c.suspects[id] = present
		c.log.Error("the data folder of a member is an older copy, or another one than it had; it must not take part in the cluster", "member", id,
			"start", present.Number, "disk", present.UUID, "heard_of_start", heard.Number, "heard_of_disk", heard.UUID)
	}
}

// judgeSelf stops this node's replicas for good if its disk does not know of a start
// that others have heard of.
func (c *Cluster) judgeSelf(heard []bootstrap.Start, by string) {
	past := c.self.Past()
	for _, s := range heard {
		if !past.Holds(s) {
			c.retire(c.self.OlderCopy(s, by))
			return
		}
	}
}

// retire stops this node's replicas for good.
func (c *Cluster) retire(reason error) {
	if !c.retired.CompareAndSwap(nil, &reason) {
		return
	}
	var stopping sync.WaitGroup
	for _, l := range c.logs {
		stopping.Go(func() { l.Retire(reason) })
	}
	stopping.Wait()
	c.log.Error("this node must not take part in the cluster", "error", reason)
	if err := c.self.Retire(reason); err != nil {
		c.log.Error("the identity file does not say so yet", "error", err)
	}
}

func pastMessage(p bootstrap.Past) *peerpb.Past {
	return &peerpb.Past{Uuid: p.UUID, Number: p.Number, Ids: p.IDs}
}

func pastOf(m *peerpb.Past) bootstrap.Past {
	return bootstrap.Past{UUID: m.GetUuid(), Number: m.GetNumber(), IDs: m.GetIds()}
}

func startMessages(starts []bootstrap.Start) []*peerpb.Start {
	var out []*peerpb.Start
	for _, s := range starts {
		out = append(out, &peerpb.Start{Uuid: s.UUID, Number: s.Number, Id: s.ID})
	}
	return out
}

func startsOf(messages []*peerpb.Start) []bootstrap.Start {
	var out []bootstrap.Start
	for _, m := range messages {
		out = append(out, bootstrap.Start{UUID: m.GetUuid(), Number: m.GetNumber(), ID: m.GetId()})
	}
	return out
}
