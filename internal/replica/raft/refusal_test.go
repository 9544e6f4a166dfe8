package raft

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// What cannot be done is told in our own words, and so that who retries can tell
// what passes from what lasts.
func TestRefused(t *testing.T) {
	r := standalone(t, clock.New(clock.Options{}))
	r.state.Become(replica.Serving, nil)
	for _, c := range []struct {
		err  error
		kind kv.Kind
		text string
	}{
		{dragonboat.ErrInvalidAddress, kv.Invalid, "not a valid Raft address"},
		{dragonboat.ErrTimeoutTooSmall, kv.Unavailable, "allow more"},
		{dragonboat.ErrInvalidDeadline, kv.Unavailable, "allow more"},
		{fmt.Errorf("wrapped: %w", dragonboat.ErrDeadlineNotSet), kv.Unavailable, "allow more"},
		{dragonboat.ErrTimeout, kv.Unavailable, "no answer in time"},
		{dragonboat.ErrCanceled, kv.Unavailable, "no answer in time"},
		{context.DeadlineExceeded, kv.Unavailable, "no answer in time"},
		{dragonboat.ErrShardNotReady, kv.Unavailable, "no leader"},
		{dragonboat.ErrAborted, kv.Unavailable, "no leader"},
		{dragonboat.ErrSystemBusy, kv.Unavailable, "retry"},
		{dragonboat.ErrShardNotInitialized, kv.Unavailable, "takes no part"},
		{dragonboat.ErrShardNotFound, kv.Unavailable, "takes no part"},
		{dragonboat.ErrShardClosed, kv.Unavailable, "takes no part"},
		{dragonboat.ErrClosed, kv.Precondition, "shutting down"},
		{host.ErrClosed, kv.Precondition, "shutting down"},
		{dragonboat.ErrReplicaRemoved, kv.Precondition, "was removed"},
		{replica.ErrRestoring, kv.Unavailable, "a restore is under way"},
		{errors.New("something new"), kv.Precondition, "something new"},
	} {
		err := r.refused("cannot do it", c.err)
		replicatest.WantError(t, err, c.kind, kv.NotApplied)
		if text := err.Error(); !strings.HasPrefix(text, "cannot do it: ") || !strings.Contains(text, c.text) {
			t.Errorf("%v is told as %q, which does not say %q", c.err, text, c.text)
		}
	}
	r.state.Become(replica.Removed, nil)
	err := r.refused("cannot do it", dragonboat.ErrTimeout)
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	if !errors.Is(err, replica.ErrRemoved) {
		t.Errorf("a removed replica says %v", err)
	}
	if err := r.state.Close(func() {}); err != nil {
		t.Error(err)
	}
}

func TestRaftMembershipErrors(t *testing.T) {
	c := newCluster(t, 1)
	owner := c.owner()
	hasty, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	_, err := owner.Membership(hasty)
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	if !strings.Contains(err.Error(), "allow more") {
		t.Errorf("with no time left: %v", err)
	}
	m, err := owner.Membership(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	err = owner.Add(context.Background(), 2, "no address", m.Version)
	replicatest.WantError(t, err, kv.Invalid, kv.NotApplied)
	err = owner.Add(context.Background(), 2, testkit.Address(t), m.Version+1)
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	if !strings.Contains(err.Error(), "look at the list of members") {
		t.Errorf("with an old version: %v", err)
	}
	raft := owner.Replica
	owner.kill()
	for what, err := range map[string]error{
		"add":      raft.Add(context.Background(), 2, testkit.Address(t), m.Version),
		"remove":   raft.Remove(context.Background(), 1, m.Version),
		"snapshot": raft.Snapshot(context.Background()),
	} {
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
		if !strings.Contains(err.Error(), "shutting down") {
			t.Errorf("%s on a stopped node: %v", what, err)
		}
	}
}

// That no majority answers is told as such, not as a want of time at the very end.
func TestRaftMembershipWithoutMajority(t *testing.T) {
	c := newCluster(t, 2)
	c.put("k", "v")
	owner := c.owner()
	c.follower().kill()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := owner.Membership(ctx)
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	if text := err.Error(); !strings.Contains(text, "no majority") || strings.Contains(text, "allow more") {
		t.Errorf("without a majority: %v", err)
	}
}

// A replica without a vote calls no election: that it hears nothing of the leader
// any more is all that it can know.
func TestRaftForgetsALeaderThatIsGone(t *testing.T) {
	c := newCluster(t, 1)
	index := c.put("k", "v")
	owner := c.owner()
	n := c.add(2, true)
	m, err := owner.Membership(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Add(context.Background(), n.id, n.addr, m.Version); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.wantAt(index, "k", "v")
	testkit.Eventually(t, "the leader is told", func() bool { return n.Status().Owner.ID == owner.id })
	owner.kill()
	testkit.Eventually(t, "no member is told to lead", func() bool {
		s := n.Status()
		return s.Owner == (replica.Owner{}) && strings.Contains(s.ReadOnly, "no leader is known")
	})
	owner.start()
	testkit.Eventually(t, "the leader is told again", func() bool { return n.Status().Owner.ID == owner.id })
}
