package condition

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/replica"
)

const (
	freshFor = 3 * time.Second

	leads    = serverpb.RegionStatus_LEADER
	follows  = serverpb.RegionStatus_SECONDARY_FOLLOWER
	copies   = serverpb.RegionStatus_ACTIVE_SLAVE
	inactive = serverpb.RegionStatus_INACTIVE
)

// member are the facts of a healthy member that does not lead.
func member() Facts {
	return Facts{Cluster: "c", Mode: replica.ModeRaft, State: replica.Serving, Readable: true, Age: time.Second}
}

// leader are the facts of a healthy leader.
func leader() Facts {
	f := member()
	f.Leads, f.Age = true, 0
	return f
}

// slave are the facts of a healthy slave.
func slave() Facts {
	return Facts{Cluster: "c", Mode: replica.ModeStream, State: replica.Serving, Readable: true, Master: "10.0.0.1:8080"}
}

// with returns facts after a change.
func with(f Facts, change func(*Facts)) Facts {
	change(&f)
	return f
}

func TestPartOfAVBucket(t *testing.T) {
	for _, c := range []struct {
		name  string
		facts Facts
		want  serverpb.RegionStatus
	}{
		{"a leader", leader(), leads},
		{"a leader that restores", with(leader(), func(f *Facts) { f.State = replica.Restoring }), leads},
		{"a leader that was cut off from the others", with(leader(), func(f *Facts) { f.Age = freshFor + 1 }), inactive},
		{"a leader that waits for its epoch", with(leader(), func(f *Facts) { f.Leads = false }), follows},
		{"a leader whose storage has failed", with(leader(), func(f *Facts) { f.State = replica.Failed }), inactive},
		{"a leader whose log does not say yet whose it is", with(leader(), func(f *Facts) { f.Cluster = "" }), inactive},
		{"a member", member(), follows},
		{"a member that is behind", with(member(), func(f *Facts) { f.Age = freshFor + 1 }), inactive},
		{"a member that was removed", with(member(), func(f *Facts) { f.State, f.Readable = replica.Removed, false }), inactive},
		{"a member that cannot be read", with(member(), func(f *Facts) { f.Readable = false }), inactive},
		{"a slave", slave(), copies},
		{"a slave that is stale", with(slave(), func(f *Facts) { f.Stale = errors.New("stale") }), inactive},
		{"a slave without data", with(slave(), func(f *Facts) { f.Readable = false }), inactive},
		{"a slave that is old, and within its limits", with(slave(), func(f *Facts) { f.Age = time.Hour }), copies},
	} {
		if got := Fit(c.facts, freshFor).Part; got != c.want {
			t.Errorf("%s is %v, not %v", c.name, got, c.want)
		}
	}
}

// TestReadinessOfANode: one vBucket that is not served is enough for clients not to be
// sent to a node, and a node that is not open or does not accept requests has no part.
func TestReadinessOfANode(t *testing.T) {
	stale, starting := errors.New("stale"), errors.New("starting")
	ready := func(accepts bool, facts ...Facts) Readiness {
		r := Readiness{Accepts: accepts}
		for _, f := range facts {
			r.Fitness = append(r.Fitness, Fit(f, freshFor))
		}
		return r
	}
	staleSlave := with(slave(), func(f *Facts) { f.Stale = stale })
	failed := with(member(), func(f *Facts) { f.State = replica.Failed })
	failedAlone := with(failed, func(f *Facts) { f.Mode = replica.ModeLocal })
	for _, c := range []struct {
		name             string
		r                Readiness
		serving, accepts bool
		requests         error
		parts            []serverpb.RegionStatus
	}{
		{"all is well", ready(true, leader(), member()), true, true, nil, []serverpb.RegionStatus{leads, follows}},
		{"it has just opened", ready(false, leader(), member()), false, true, errNotAccepting, []serverpb.RegionStatus{inactive, inactive}},
		{"it is starting", Readiness{Starting: starting}, false, false, starting, []serverpb.RegionStatus{}},
		{"a member's storage has failed", ready(true, leader(), failed), false, false, nil, []serverpb.RegionStatus{leads, inactive}},
		{"a standalone node's storage has failed", ready(true, failedAlone), true, true, nil, []serverpb.RegionStatus{inactive}},
		{"a copy is stale", ready(true, slave(), staleSlave), true, false, stale, []serverpb.RegionStatus{copies, inactive}},
	} {
		if got := c.r.Serving(); got != c.serving {
			t.Errorf("%s: serving is %t", c.name, got)
		}
		if got := c.r.ShouldAccept(); got != c.accepts {
			t.Errorf("%s: should accept is %t", c.name, got)
		}
		if got := c.r.Requests(); got != c.requests {
			t.Errorf("%s: the reason is %v", c.name, got)
		}
		if got := c.r.Parts(); !slices.Equal(got, c.parts) {
			t.Errorf("%s: the parts are %v, not %v", c.name, got, c.parts)
		}
	}
}

func TestFreshFor(t *testing.T) {
	for vBuckets, want := range map[int]time.Duration{1: 3 * time.Second, 50: 3 * time.Second, 100: 6 * time.Second} {
		if got := FreshFor(vBuckets); got != want {
			t.Errorf("%d vBuckets: %v, not %v", vBuckets, got, want)
		}
	}
}
