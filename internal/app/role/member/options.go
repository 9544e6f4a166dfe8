package member

import (
	"github.com/dkvdb/dkv/internal/app/hosts"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/timing"
	"github.com/dkvdb/dkv/internal/version"
)

// self is how the others reach this node.
func (m *Member) self() replica.Member {
	start := m.identity.Past().Last()
	return replica.Member{
		Name:        m.node.Info.Name,
		Address:     m.node.Info.Address,
		HTTPAddress: m.node.Info.HTTPAddress,
		RaftAddress: m.identity.Address(),
		DC:          m.node.Info.DC,
		UUID:        m.identity.UUID,
		Starts:      start.Number,
		Start:       start.ID,
		LogFormat:   command.Newest(),
	}
}

// recorded returns an error if a log's record of this node is one that its disk knows
// nothing of: then the disk is an older copy.
func (m *Member) recorded(record replica.Member) error {
	start := bootstrap.Start{UUID: record.UUID, Number: record.Starts, ID: record.Start}
	if record.Starts == 0 || m.identity.Past().Holds(start) {
		return nil
	}
	return m.identity.OlderCopy(start, "the log")
}

// terms are what all members must have in common.
func (m *Member) terms() bootstrap.Terms { return TermsOf(m.node) }

// TermsOf returns what a node that is, or may become, a member must have in common with the
// others.
func TermsOf(n *node.Node) bootstrap.Terms {
	only := ""
	if len(n.Layout.VBuckets) == 1 {
		only = n.Layout.VBuckets[0]
	}
	return bootstrap.Terms{
		ClusterName: n.Config.Nexus.ClusterName,
		Database:    n.Layout.Database,
		VBuckets:    len(n.Layout.VBuckets),
		VBucket:     only,
		Version:     version.String(),
		Format:      command.Newest(),
		Timing:      timing.Setting{Current: timingOf(n)},
	}
}

// timing is what the node is configured with.
func (m *Member) timing() timing.Timing { return timingOf(m.node) }

func timingOf(n *node.Node) timing.Timing {
	raft := &n.Config.Raft
	return timing.Timing{
		RTT: raft.RTT, Election: uint64(raft.ElectionRTT), Heartbeat: uint64(raft.HeartbeatRTT), Lease: raft.LeaseDuration,
	}
}

func (m *Member) bootstrapOptions(url string) bootstrap.Options {
	nexus := &m.node.Config.Nexus
	return bootstrap.Options{
		Dir:        m.node.Dir.Path(),
		Folders:    m.memberFolders(),
		URL:        url,
		Address:    m.node.Info.Address,
		Peers:      nexus.ClusterURLs,
		Join:       nexus.Join,
		Terms:      m.terms(),
		Certs:      m.node.Certs,
		Clear:      m.clear(),
		Host:       bootstrap.Host{Addrs: hosts.Own(), Lookup: hosts.Lookup},
		RaftData:   func() (bool, error) { return host.HasLog(nexus.LogDir) },
		StateThere: m.node.Dir.Claimed(),
		Waits:      m.node.Waiting.Begin,
		Log:        m.node.Log,
	}
}
