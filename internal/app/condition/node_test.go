package condition

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
)

// evidence is that of a healthy node with a vBucket for each status.
func evidence(replicas ...replica.Status) Evidence {
	e := Evidence{
		Replicas:  replicas,
		Self:      Self{ID: "2", Address: "10.0.0.2:8080"},
		Removal:   "this node was removed",
		Clock:     clock.New(clock.Options{MaxJump: time.Second}),
		Readiness: Readiness{Accepts: true},
	}
	for i, s := range replicas {
		e.Names = append(e.Names, string(rune('0'+i)))
		readable := s.State != replica.Removed && s.Unreadable == nil
		e.Fitness = append(e.Fitness, Fit(Facts{Cluster: "c", Mode: s.Mode, State: s.State, Readable: readable, Stale: s.Stale}, freshFor))
	}
	return e
}

// local and stream are the statuses of a healthy standalone node and of a slave, which
// rejects mutations.
func local() replica.Status {
	return replica.Status{Mode: replica.ModeLocal, State: replica.Serving, IsLeader: true, Owner: replica.Owner{Self: true, ID: 1}}
}

func stream() replica.Status {
	return replica.Status{Mode: replica.ModeStream, State: replica.Serving, ReadOnly: "this node is a slave", Owner: replica.Owner{ID: 1, Address: "10.0.0.1:8080"}}
}

// changed returns a status after a change.
func changed(s replica.Status, change func(*replica.Status)) replica.Status {
	change(&s)
	return s
}

func TestHealthOfANode(t *testing.T) {
	bad := errors.New("bad block")
	peer := cluster.Peer{ID: 3, Address: "10.0.0.3:9020"}
	missing := peer.String() + " does not answer: start it, or remove it if it is gone for good (dkvctl -removeNode " + peer.URL() + ")"
	paused := changed(local(), func(s *replica.Status) { s.ReadOnly = "writes are paused" })
	removed := changed(local(), func(s *replica.Status) { s.Mode, s.State = replica.ModeRaft, replica.Removed })
	for _, c := range []struct {
		name    string
		e       Evidence
		health  ops.Status
		reasons []string
	}{
		{"all is well", evidence(local(), local()), ops.Healthy, nil},
		{"it is starting", Evidence{Readiness: Readiness{Starting: errors.New("it waits")}}, ops.Unhealthy, []string{"it waits"}},
		{"writes are paused in all vBuckets", evidence(paused, paused), ops.Degraded, []string{"writes are paused"}},
		{"a slave rejects writes", evidence(stream()), ops.Healthy, nil},
		{"a slave does not get on", evidence(changed(stream(), func(s *replica.Status) { s.Behind = bad })), ops.Degraded, []string{"bad block"}},
		{"a slave is stale", evidence(changed(stream(), func(s *replica.Status) { s.Stale = bad })), ops.Unhealthy, []string{"bad block"}},
		{"a standalone node's storage has failed", evidence(changed(local(), func(s *replica.Status) { s.State, s.ReadOnly = replica.Failed, "storage failed" })),
			ops.Degraded, []string{"storage failed"}},
		{"a member's storage has failed", evidence(changed(local(), func(s *replica.Status) {
			s.Mode, s.State, s.ReadOnly = replica.ModeRaft, replica.Failed, "storage failed"
		})),
			ops.Unhealthy, []string{"storage failed"}},
		{"a read has met damage", evidence(changed(local(), func(s *replica.Status) { s.Corruption = bad })), ops.Degraded, []string{"bad block; restore a backup"}},
		{"nothing can be read", evidence(changed(local(), func(s *replica.Status) { s.Unreadable = bad })), ops.Unhealthy, []string{"nothing can be read: bad block"}},
		{"it was removed", evidence(removed, removed), ops.Unhealthy, []string{"this node was removed"}},
		{"members do not answer", changedEvidence(evidence(local()), func(e *Evidence) { e.Missing = []cluster.Peer{peer} }), ops.Degraded, []string{missing}},
		{"it was removed and does not hear from members", changedEvidence(evidence(removed), func(e *Evidence) { e.Missing, e.Accepts = []cluster.Peer{peer}, false }),
			ops.Unhealthy, []string{"this node was removed"}},
		{"the audit log fails", changedEvidence(evidence(local()), func(e *Evidence) { e.AuditFailure = bad }), ops.Degraded, []string{"the audit log cannot be written, its lines go to the common log: bad block"}},
		{"its file of identities cannot be used", changedEvidence(evidence(local()), func(e *Evidence) { e.AuthFailure = bad }), ops.Degraded, []string{"bad block"}},
		{"the registry refuses it", changedEvidence(evidence(local()), func(e *Evidence) { e.Rejection = bad }), ops.Degraded, []string{"the registry refuses this node: bad block"}},
		{"its certificate expires soon", changedEvidence(evidence(local()), func(e *Evidence) { e.Certificates = "expires soon" }), ops.Degraded, []string{"expires soon"}},
		{"it has no lease of the registry", changedEvidence(evidence(local()), func(e *Evidence) { e.Unanswered = "no lease" }), ops.Degraded, []string{"no lease"}},
		{"it runs with another timing", changedEvidence(evidence(local()), func(e *Evidence) { e.TimingFault = "other timing" }), ops.Degraded, []string{"other timing"}},
		{"it drains", changedEvidence(evidence(local()), func(e *Evidence) { e.Accepts = false }), ops.Unhealthy, []string{"gRPC is starting or draining"}},
	} {
		n := Judge(c.e)
		if n.Health != c.health || !slices.Equal(n.Reasons, c.reasons) {
			t.Errorf("%s: %s, %q; want %s, %q", c.name, n.Health, n.Reasons, c.health, c.reasons)
		}
	}
}

func changedEvidence(e Evidence, change func(*Evidence)) Evidence {
	change(&e)
	return e
}

// TestClocksOfANode: a member whose clock is off is named, and a log whose clock is ahead
// of the machines' says what to do.
func TestClocksOfANode(t *testing.T) {
	e := evidence(changed(local(), func(s *replica.Status) { s.Clock = time.Now().Add(time.Hour) }))
	if n := Judge(e); n.Health != ops.Degraded || len(n.Reasons) != 1 || !strings.Contains(n.Reasons[0], "dkvctl -resetClock sets it back") {
		t.Errorf("a log's clock is ahead: %s, %q", n.Health, n.Reasons)
	}
	e = evidence(changed(stream(), func(s *replica.Status) { s.Clock = time.Now().Add(time.Hour) }))
	if n := Judge(e); n.Health != ops.Healthy {
		t.Errorf("a master's clock is ahead of a slave's: %s, %q", n.Health, n.Reasons)
	}
}

func TestLeaderOfAVBucket(t *testing.T) {
	for _, c := range []struct {
		name        string
		s           replica.Status
		address, id string
	}{
		{"this node", local(), "10.0.0.2:8080", "2"},
		{"another node", replica.Status{Owner: replica.Owner{ID: 7, Address: "10.0.0.7:8080"}}, "10.0.0.7:8080", "7"},
		{"unknown", replica.Status{}, "", ""},
		{"a node that was removed", replica.Status{State: replica.Removed, Owner: replica.Owner{Self: true}}, "", ""},
	} {
		v := Judge(evidence(c.s)).VBuckets[0]
		if v.Leader != c.address || v.LeaderID != c.id {
			t.Errorf("%s: %s, %s", c.name, v.Leader, v.LeaderID)
		}
	}
}

func TestHowMembersShow(t *testing.T) {
	offline := Listed(modelspb.NodeInfo_OFFLINE)
	if offline.State != "OFFLINE" || offline.Healthy || !Listed(modelspb.NodeInfo_FOLLOWER).Healthy || Listed(modelspb.NodeInfo_SLAVE).Healthy {
		t.Errorf("listed as %+v", offline)
	}
	if got := Said(offline, nil); got != offline {
		t.Errorf("a member that says nothing shows as %+v", got)
	}
	for _, c := range []struct {
		state   replica.State
		leads   bool
		want    string
		healthy bool
	}{
		{replica.Serving, true, "LEADER", true},
		{replica.Serving, false, "FOLLOWER", true},
		{replica.Restoring, true, "restoring", true},
		{replica.Failed, false, "failed", false},
		{replica.Removed, false, "removed", false},
	} {
		said := Said(offline, &serverpb.VBucketStatus{State: string(c.state), IsLeader: c.leads, CommitIndex: 7, AppliedIndex: 6})
		own := Judge(evidence(replica.Status{Mode: replica.ModeRaft, State: c.state, IsLeader: c.leads, Commit: 7, Applied: 6})).VBuckets[0].Shown(offline)
		for who, got := range map[string]Shown{"another member": said, "this node": own} {
			if got.State != c.want || got.Healthy != c.healthy || *got.Commit != 7 || *got.Applied != 6 {
				t.Errorf("%s that is %s, leading %t, shows as %+v", who, c.state, c.leads, got)
			}
		}
	}
	listed := Listed(modelspb.NodeInfo_SLAVE)
	well := Judge(evidence(stream())).VBuckets[0].Shown(listed)
	stale := Judge(evidence(changed(stream(), func(s *replica.Status) { s.Stale = errors.New("stale") }))).VBuckets[0].Shown(listed)
	if well.State != "SLAVE" || !well.Healthy || well.Commit != nil || stale.State != "SLAVE" || stale.Healthy {
		t.Errorf("a slave shows as %+v, a stale one as %+v", well, stale)
	}
}
