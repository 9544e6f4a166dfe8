package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// sayWaiting logs what a node waits for, at intervals, until ctx ends.
func (s *starter) sayWaiting(ctx context.Context) {
	every := s.pace.waiting
	if !s.Join {
		s.waits("for an invitation by the cluster's founder " + s.Peers[0])
	} else {
		every = s.pace.joining
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if s.Join {
			s.waits("to be added to a cluster; on any of its members run: dkvctl -addNode " + s.URL)
			s.log.Info("waiting to be added to a cluster; on any of its members: dkvctl -addNode "+s.URL, "url", s.URL)
		} else if hint := s.aboutFounder(ctx); ctx.Err() == nil {
			s.waits("for an invitation by the cluster's founder " + s.Peers[0] + ": " + hint)
			s.log.Info("waiting for an invitation by the cluster's founder "+s.Peers[0], "founder", s.Peers[0], "url", s.URL, "hint", hint)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// waits reports what the node waits for.
func (s *starter) waits(what string) {
	if s.Waits != nil {
		s.Waits("this node waits " + what)
	}
}

// aboutFounder says why the founder may not have invited this node yet.
func (s *starter) aboutFounder(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := s.client.Probe(ctx, s.Peers[0])
	switch {
	case err == nil:
		return "it is starting"
	case errors.Is(err, ErrMember):
		return "it runs already; if the invitation does not come, this node is not in its list or has lost its disk: " +
			"start it with --nexus-join and add it (dkvctl -addNode " + s.URL + ")"
	case errors.Is(err, ErrNoAnswer):
		return "it does not answer: is it started?"
	}
	return err.Error()
}

// look keeps the founder from founding while a node of the list runs Raft already: then
// the cluster was formed before, and this node has lost its disk. A port that is merely
// forwarded to a node that is not up yet looks the same, which is what the patience is for.
func (s *starter) look(ctx context.Context, i *invitee) error {
	deadline := time.Now().Add(s.pace.patience)
	var said []string
	for {
		running := s.running(ctx)
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if len(running) == 0 {
			return nil
		}
		if !time.Now().Before(deadline) {
			return fmt.Errorf("%w: this node's disk is empty, but %s of nexus-cluster-url runs already, so the cluster was formed before: "+
				"if this node's disk was lost, remove it (dkvctl -removeNode %s), start it with --nexus-join and add it again "+
				"(dkvctl -addNode %s); if another program has that port, stop it", ErrMismatch, listed(running), s.URL, s.URL)
		}
		if !slices.Equal(running, said) {
			said = running
			s.waits("before it founds a cluster: " + listed(running) + " of nexus-cluster-url runs already, or its port is forwarded to nothing")
			s.log.Warn("not founding a cluster yet: another node of the list runs already, or its port is forwarded to nothing",
				"running", listed(running))
		}
		select {
		case <-i.decided:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(s.pace.look):
		}
	}
}

// running returns the other nodes of the list that run Raft.
func (s *starter) running(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var mu sync.Mutex
	var out []string
	var wg sync.WaitGroup
	for _, u := range s.Peers {
		if u == s.URL {
			continue
		}
		wg.Go(func() {
			if _, err := s.client.Probe(ctx, u); errors.Is(err, ErrMember) {
				mu.Lock()
				defer mu.Unlock()
				out = append(out, u)
			}
		})
	}
	wg.Wait()
	slices.Sort(out)
	return out
}

// founding is the founder's loop about one other first member.
type founding struct {
	id       *Identity
	replica  uint64
	url      string
	standing func(replica uint64) Standing
	// said is the reason that was logged last.
	said string
}

// run invites the member until it needs no invitation, or ctx ends.
func (f *founding) run(ctx context.Context) {
	pause := f.id.pace.retry
	for {
		settled, err := f.attempt(ctx)
		if settled || ctx.Err() != nil {
			return
		}
		f.say(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, f.id.pace.retryMax)
	}
}

// say logs why the member is not invited, each time that changes.
func (f *founding) say(err error) {
	// The texts of lost connections differ by their ports.
	kind := err.Error()
	for _, k := range []error{ErrNoAnswer, ErrMember} {
		if errors.Is(err, k) {
			kind = k.Error()
		}
	}
	if kind == f.said {
		return
	}
	f.said = kind
	if errors.Is(err, ErrNoAnswer) {
		f.id.log.Info("waiting for a first member of the cluster", "replica", f.replica, "url", f.url, "reason", err)
		return
	}
	f.id.log.Warn("a first member of the cluster cannot be invited", "replica", f.replica, "url", f.url, "reason", err)
}

// attempt is one attempt to invite the member.
func (f *founding) attempt(ctx context.Context) (settled bool, err error) {
	if settled, err := f.settled(); settled || err != nil {
		return settled, err
	}
	hello, err := f.id.client.Probe(ctx, f.url)
	if err != nil {
		return false, err
	}
	if hello.Joining {
		return false, fmt.Errorf("%w: %s waits with --nexus-join: start it without, or add it (dkvctl -addNode %s)", ErrUnfit, f.url, f.url)
	}
	if err := f.bind(hello); err != nil {
		if errors.Is(err, ErrUnfit) {
			// A rejection that is lost is sent again at the next attempt.
			if lost := f.id.client.reject(ctx, hello, err.Error()); lost != nil {
				f.id.log.Debug("a rejection did not arrive", "url", f.url, "error", lost)
			}
		}
		return false, err
	}
	err = f.id.client.Invite(ctx, f.url, Invitation{
		UUID: hello.UUID, Terms: f.id.terms(), Deployment: f.id.Deployment, Replica: f.replica, Members: f.id.Members,
		Addresses: f.addresses(hello),
	})
	if err != nil {
		return false, err
	}
	if err := f.record(accepted); err != nil {
		return false, err
	}
	f.id.log.Info("a first member of the cluster has accepted", "replica", f.replica, "url", f.url)
	return true, nil
}

// addresses returns the members' gRPC addresses, including those of the node that said
// hello and of the founder.
func (f *founding) addresses(h Hello) map[uint64]string {
	f.id.mu.Lock()
	defer f.id.mu.Unlock()
	out := with(f.id.notes.Addresses, f.replica, h.Address)
	if err := f.id.setAddresses(out); err != nil {
		f.id.log.Debug("a member's address cannot be recorded", "replica", f.replica, "error", err)
	}
	return with(out, f.id.Replica, f.id.grpc)
}

// settled reports whether the member needs no invitation, by what is written down or by
// what Raft knows.
func (f *founding) settled() (bool, error) {
	f.id.mu.Lock()
	m := *f.id.rec.member(f.replica)
	f.id.mu.Unlock()
	if m.State == accepted || m.State == removed {
		return true, nil
	}
	switch f.standing(f.replica) {
	case Removed:
		err := f.record(removed)
		return err == nil, err
	case Active:
		if m.State == invited {
			err := f.record(accepted)
			return err == nil, err
		}
	}
	return false, nil
}

// record writes down the state of the member's invitation.
func (f *founding) record(state inviteState) error {
	f.id.mu.Lock()
	defer f.id.mu.Unlock()
	return f.id.change(func(r *record) { r.member(f.replica).State = state })
}

// bind writes down, before the invitation, that the member is the node that said hello,
// for ever. The error wraps ErrUnfit if it must not be.
func (f *founding) bind(h Hello) error {
	if err := h.Fits(f.id.terms()); err != nil {
		return err
	}
	f.id.mu.Lock()
	defer f.id.mu.Unlock()
	if urls := f.id.rec.urls(); !slices.Equal(h.Peers, urls) {
		return fmt.Errorf("%w: %s has nexus-cluster-url %s, the founder %s has %s: start all nodes with one list",
			ErrUnfit, f.url, listed(h.Peers), f.id.URL, listed(urls))
	}
	for _, m := range f.id.rec.Members {
		if m.Replica != f.replica && m.UUID == h.UUID {
			return fmt.Errorf("%w: %s has the disk of replica %d, %s, or a copy of it: give it an empty data folder", ErrUnfit, f.url, m.Replica, m.URL)
		}
	}
	switch m := f.id.rec.member(f.replica); {
	case m.UUID == "":
		return f.id.change(func(r *record) {
			m := r.member(f.replica)
			m.UUID, m.State = h.UUID, invited
		})
	case m.UUID != h.UUID:
		return fmt.Errorf("%w: %s", ErrUnfit, LostDisk(f.replica, f.url))
	}
	return nil
}

// terms returns the cluster's terms.
func (id *Identity) terms() Terms {
	return Terms{ClusterName: id.ClusterName, Database: id.Database, VBuckets: id.VBuckets, VBucket: id.vBucket, Version: id.version, Format: id.LogFormat, Timing: id.timing}
}
