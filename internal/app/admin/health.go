package admin

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
)

// serving answers /health/quick.
func (a *Admin) serving() bool {
	r := a.Readiness()
	return r.Serving()
}

// probeGRPC fails while requests are not accepted.
func (a *Admin) probeGRPC(context.Context) error {
	r := a.Readiness()
	return r.Requests()
}

// probeStorage fails while a vBucket cannot be read. Whether writes are accepted, too, is
// answered to each of them.
func (a *Admin) probeStorage(context.Context) error {
	r := a.Readiness()
	if r.Starting != nil {
		return r.Starting
	}
	for i := range r.Fitness {
		if !r.Fitness[i].Readable {
			n := a.Condition() // has the reason
			return n.VBuckets[i].Unreadable
		}
	}
	return nil
}

// health answers /health.
func (a *Admin) health(context.Context) ops.Health {
	usage, info, n := a.Node.Guard.Usage(), &a.Node.Info, a.Condition()
	h := ops.Health{
		Status:        n.Health,
		Reasons:       n.Reasons,
		NodeName:      info.Name,
		Version:       info.Version,
		Role:          info.Role,
		UptimeSeconds: time.Since(info.Started).Seconds(),
		Insecure:      a.insecure,
		Disk:          ops.Disk{FreeBytes: usage.Free, TotalBytes: usage.Total, ReserveBytes: usage.Reserve},
	}
	if n.Starting != nil {
		return h // no more is known
	}
	h.NodeID = info.ID
	h.ClusterVersion, h.Understands = a.Services().Node.Versions()
	peers := a.peers() // the same for all vBuckets, of which there may be a thousand
	for i := range n.VBuckets {
		h.VBuckets = append(h.VBuckets, a.vBucketHealth(&n.VBuckets[i], peers))
	}
	for _, t := range a.Node.Tasks.Running() {
		h.Tasks = append(h.Tasks, ops.Task{Kind: t.Kind, Subject: t.Subject, Step: t.Step, Part: t.Part, Parts: t.Parts,
			Done: t.Done, Total: t.Total, Unit: t.Unit, Seconds: t.Elapsed.Seconds(), StepSeconds: t.InStep.Seconds()})
	}
	return h
}

func (a *Admin) vBucketHealth(v *condition.VBucket, peers []ops.Peer) ops.VBucket {
	s := &v.Replica
	return ops.VBucket{
		Database:       a.Node.Info.Database,
		Name:           v.Name,
		Mode:           modeNames[s.Mode],
		State:          string(s.State),
		IsLeader:       s.IsLeader,
		Leader:         v.Leader,
		Term:           s.Term,
		CommitIndex:    s.Commit,
		AppliedIndex:   s.Applied,
		LagChanges:     s.Lag,
		LagSeconds:     s.Age.Seconds(),
		Peers:          peers,
		WritesPaused:   s.Paused,
		WritesRejected: v.Rejection(),
		Reasons:        v.Reasons,
	}
}

// modeNames is how the document names what keeps a log.
var modeNames = map[replica.Mode]string{replica.ModeLocal: "standalone", replica.ModeRaft: "raft", replica.ModeStream: "slave"}

// peers are the other members of the cluster.
func (a *Admin) peers() []ops.Peer {
	var out []ops.Peer
	for _, p := range a.Role.Cluster().Peers() {
		out = append(out, ops.Peer{ID: p.Name(), Address: p.Address, Healthy: p.Healthy})
	}
	return out
}
