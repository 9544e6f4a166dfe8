package condition

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
)

// Node is the condition of a node.
type Node struct {
	Readiness
	VBuckets []VBucket
	// Removed reports whether the cluster has removed this node from all its vBuckets.
	Removed bool
	Health  ops.Status
	// Reasons are why Health is not healthy, a sentence each.
	Reasons []string
}

// Evidence is what a node is judged by.
type Evidence struct {
	Readiness
	// Names and Replicas have an element for each vBucket, in hash order.
	Names    []string
	Replicas []replica.Status
	Self     Self
	// Removal is what there is to say of a node that was removed.
	Removal string
	// Up is for how long the process has run.
	Up time.Duration
	// Clock is what the node takes for the time, Clocks those of its cluster's members.
	Clock  *clock.Clock
	Clocks []cluster.MemberClock
	// Missing are the members of the cluster that do not answer.
	Missing []cluster.Peer
	// TimingFault is what is wrong with the timing that the cluster runs with; empty for
	// nothing.
	TimingFault string
	// Unanswered is why the node answers no mutation although it owns logs; empty for nothing.
	Unanswered string
	// Certificates is what is wrong with the node's certificates; empty for nothing.
	Certificates string
	// Rejection is why the registry rejects this node's rows; nil if it does not.
	Rejection error
	// AuditFailure is why the audit log cannot be written; nil if it can.
	AuditFailure error
	// AuthFailure is what is wrong with the file of identities; nil for nothing.
	AuthFailure error
}

// Judge judges a node.
func Judge(e Evidence) Node {
	n := Node{Readiness: e.Readiness, Health: ops.Healthy}
	if e.Starting != nil {
		n.worsen(ops.Unhealthy, e.Starting.Error())
		return n
	}
	n.Removed = len(e.Replicas) > 0
	n.VBuckets = make([]VBucket, 0, len(e.Replicas))
	for i, s := range e.Replicas {
		n.Removed = n.Removed && s.State == replica.Removed
		n.add(judgeVBucket(e.Names[i], e.Fitness[i], s, e.Self, e.Clock), e.Removal)
	}
	n.worsen(ops.Degraded, strings.Join(clockFaults(&e), "; "))
	if !n.Removed {
		for _, p := range e.Missing {
			n.worsen(ops.Degraded, fmt.Sprintf("%s does not answer: start it, or remove it if it is gone for good (dkvctl -removeNode %s)", p, p.URL()))
		}
	}
	n.worsen(ops.Degraded, e.TimingFault)
	n.worsen(ops.Degraded, e.Unanswered)
	n.worsen(ops.Degraded, e.Certificates)
	if e.Rejection != nil {
		n.worsen(ops.Degraded, "the registry refuses this node: "+e.Rejection.Error())
	}
	if e.AuditFailure != nil {
		n.worsen(ops.Degraded, "the audit log cannot be written, its lines go to the common log: "+e.AuditFailure.Error())
	}
	if e.AuthFailure != nil {
		n.worsen(ops.Degraded, e.AuthFailure.Error())
	}
	if err := e.Requests(); err != nil && (e.Stale() != nil || !n.Removed) {
		n.worsen(ops.Unhealthy, err.Error())
	}
	return n
}

// add adds the condition of a vBucket.
func (n *Node) add(v VBucket, removal string) {
	n.VBuckets = append(n.VBuckets, v)
	n.Health = worst(n.Health, v.Health)
	if v.Replica.State == replica.Removed {
		n.worsen(ops.Unhealthy, removal)
	}
	for _, reason := range v.Reasons {
		n.worsen(v.Health, reason)
	}
}

// worsen adds a reason not to be healthy, once: many vBuckets share their reasons. An
// empty one is none.
func (n *Node) worsen(to ops.Status, reason string) {
	if reason == "" {
		return
	}
	n.Health = worst(n.Health, to)
	if !slices.Contains(n.Reasons, reason) {
		n.Reasons = append(n.Reasons, reason)
	}
}

// clockPatience is how long a start may take until enough clocks are known.
const clockPatience = 15 * time.Second

// clockFaults are what is wrong with the clocks that the node goes by.
func clockFaults(e *Evidence) []string {
	var out []string
	own := false
	for _, m := range e.Clocks {
		if fault := m.Fault(); fault != "" {
			out, own = append(out, fault), own || m.Self
		}
	}
	inCluster := slices.ContainsFunc(e.Replicas, func(s replica.Status) bool { return s.Mode == replica.ModeRaft })
	if inCluster && !e.Clock.Known() && e.Up > clockPatience {
		out = append(out, "the clocks of a majority of the members are not known: the time goes on from the log's clock")
	}
	most := e.Clock.MaxJump() + clockSlack
	if ahead := e.Clock.Damped(); !own && len(out) == 0 && ahead > most {
		out = append(out, fmt.Sprintf("this node's wall clock is %s ahead of the time that it goes by, which follows slowly; "+
			"if it is wrong, set it right; if it is right, dkvctl -resetClock accepts it", ahead.Round(time.Second)))
	}
	return out
}
