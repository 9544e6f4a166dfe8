package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
)

// opsOptions tell the HTTP server about the node.
func (n *node) opsOptions() ops.Options {
	return ops.Options{
		Logger:   n.log,
		Audit:    n.audit,
		Admit:    n.admitAdmin,
		Gatherer: n.metrics,
		Serving:  n.serving,
		Health:   n.health,
		Live: []ops.Check{
			{Name: "process", Probe: func(context.Context) error { return nil }},
		},
		Ready: []ops.Check{
			{Name: "grpc", Probe: n.probeGRPC},
			{Name: "storage", Probe: n.probeStorage},
		},
		Views:    n.views(),
		Actions:  n.actions(),
		Handlers: n.handlers(),
		Vars:     map[string]func() any{"dkv": func() any { return n.health(context.Background()) }},
		Pprof:    n.cfg.Ops.Pprof,
		// Health is asked for when all else is used up.
		MaxConnections: config.HTTPFiles(config.OpenFiles()),
		StatusOf:       httpStatus,
	}
}

func (n *node) probeGRPC(context.Context) error {
	if !n.opened.Load() {
		return n.opening()
	}
	if err := n.lagging(); err != nil {
		return err
	}
	if !n.grpc.Serving() {
		return errors.New("gRPC is starting or draining")
	}
	return nil
}

func (n *node) probeStorage(context.Context) error {
	if !n.opened.Load() {
		return n.opening()
	}
	for _, v := range n.vBuckets {
		if v.Readable() {
			continue // whether writes are taken, too, each of them is told
		}
		s := v.Status()
		if s.Unreadable != nil {
			return s.Unreadable
		}
		return fmt.Errorf("vBucket %s is %s", v.name, s.State)
	}
	return nil
}

func (n *node) health(context.Context) ops.Health {
	usage := n.guard.Usage()
	h := ops.Health{
		Status:        ops.Healthy,
		NodeName:      n.info.Name,
		Version:       n.info.Version,
		Role:          n.info.Role,
		UptimeSeconds: time.Since(n.info.Started).Seconds(),
		Disk:          ops.Disk{FreeBytes: usage.Free, TotalBytes: usage.Total, ReserveBytes: usage.Reserve},
	}
	if !n.opened.Load() {
		h.Status, h.Reasons = ops.Unhealthy, []string{n.opening().Error()}
		return h
	}
	h.NodeID = n.info.ID
	for _, v := range n.vBuckets {
		n.addHealth(&h, v)
	}
	n.addClocks(&h)
	n.addMissing(&h)
	if n.cluster != nil {
		if fault := n.cluster.TimingFault(); fault != "" {
			h.Status, h.Reasons = worse(h.Status), append(h.Reasons, fault)
		}
	}
	if n.announcer != nil {
		if err := n.announcer.Refusal(); err != nil {
			h.Status, h.Reasons = worse(h.Status), append(h.Reasons, "the registry refuses this node: "+err.Error())
		}
	}
	if err := n.lagging(); err != nil {
		h.Status, h.Reasons = ops.Unhealthy, append(h.Reasons, err.Error())
	} else if !n.grpc.Serving() && !n.isRemoved() {
		h.Status, h.Reasons = ops.Unhealthy, append(h.Reasons, "gRPC is starting or draining")
	}
	return h
}

// addMissing names the members of the cluster that do not answer: it goes on without
// them, and not without a majority.
func (n *node) addMissing(h *ops.Health) {
	if n.cluster == nil || n.isRemoved() {
		return
	}
	for _, p := range n.cluster.Missing() {
		h.Status = worse(h.Status)
		h.Reasons = append(h.Reasons, fmt.Sprintf("%s does not answer: start it, or remove it if it is gone for good (dkvctl -removeNode %s)", p, p.URL()))
	}
}

// worse is degraded, unless a node is worse than that.
func worse(s ops.Status) ops.Status {
	if s == ops.Unhealthy {
		return s
	}
	return ops.Degraded
}

// addHealth adds a vBucket to the document.
func (n *node) addHealth(h *ops.Health, v vBucket) {
	s := v.Status()
	h.VBuckets = append(h.VBuckets, ops.VBucket{
		Database:     n.info.Database,
		Name:         s.VBucket,
		Mode:         modeNames[s.Mode],
		State:        string(s.State),
		IsLeader:     s.IsLeader,
		Leader:       n.leaderOf(&s),
		Term:         s.Term,
		CommitIndex:  s.Commit,
		AppliedIndex: s.Applied,
		LagChanges:   s.Lag,
		LagSeconds:   s.Age.Seconds(),
		Peers:        n.peers(),
	})
	worsen := func(to ops.Status, reason string) {
		if h.Status != ops.Unhealthy {
			h.Status = to
		}
		if !slices.Contains(h.Reasons, reason) { // many vBuckets share their reasons
			h.Reasons = append(h.Reasons, reason)
		}
	}
	if s.State == replica.Removed {
		worsen(ops.Unhealthy, n.removal())
		return
	}
	if s.Behind != nil {
		worsen(ops.Degraded, s.Behind.Error())
	}
	f, slave := v.hosted.(*followed)
	switch {
	case !slave && s.ReadOnly != "":
		worsen(ops.Degraded, s.ReadOnly)
	case slave: // that it takes no writes is its nature
		if err := f.puller.Status().Err; err != nil {
			worsen(ops.Degraded, "changes are not applied at present: "+err.Error())
		}
	}
	if fault := n.logClockFault(&s); fault != "" {
		worsen(ops.Degraded, fault)
	}
	if s.Corruption != nil {
		worsen(ops.Degraded, s.Corruption.Error()+"; restore a backup")
	}
	switch {
	case s.Unreadable != nil:
		worsen(ops.Unhealthy, "nothing can be read: "+s.Unreadable.Error())
	case !v.Readable():
		worsen(ops.Unhealthy, fmt.Sprintf("vBucket %s is %s", v.name, s.State))
	case s.State == replica.Failed && s.Mode != replica.ModeLocal:
		worsen(ops.Unhealthy, s.ReadOnly)
	}
}

// modeNames is how the document calls what keeps a log.
var modeNames = map[replica.Mode]string{replica.ModeLocal: "standalone", replica.ModeRaft: "raft", replica.ModeStream: "slave"}

// leaderOf is the address of the node that takes writes; empty while unknown, and on a
// node that was removed, which answers for itself and leads nothing.
func (n *node) leaderOf(s *replica.Status) string {
	switch {
	case s.State == replica.Removed:
		return ""
	case s.Owner.Self:
		return n.info.Address
	default:
		return s.Owner.Address
	}
}

// peers are the other members of the cluster.
func (n *node) peers() []ops.Peer {
	if n.cluster == nil {
		return nil
	}
	var out []ops.Peer
	for _, p := range n.cluster.Peers() {
		out = append(out, ops.Peer{ID: p.Name(), Address: p.Address, Healthy: p.Healthy})
	}
	return out
}
