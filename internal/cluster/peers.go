package cluster

import (
	"fmt"
	"strconv"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
)

// Peer is another member as this node sees it.
type Peer struct {
	ID uint64
	// Node is the name that the member gave itself; empty while that is not known.
	Node    string
	Address string
	Voting  bool
	// Healthy tells that it has answered within the last seconds.
	Healthy bool
	// Status is what it said of itself then; nil for nothing.
	Status *serverpb.NodeStatusResponse
}

// Name is how a member is called in metrics.
func (p Peer) Name() string { return strconv.FormatUint(p.ID, 10) }

// URL is the member's Raft address as commands take it.
func (p Peer) URL() string { return bootstrap.FormatURL(p.Address) }

// String names the member in a sentence.
func (p Peer) String() string {
	if p.Node == "" {
		return fmt.Sprintf("member %d at %s", p.ID, p.URL())
	}
	return fmt.Sprintf("member %d (%s) at %s", p.ID, p.Node, p.URL())
}

// Peers lists the other members.
func (c *Cluster) Peers() []Peer {
	var out []Peer
	seen := *c.seen.Load()
	for _, p := range c.lastKnown().Peers {
		if p.ID == c.self.Replica {
			continue
		}
		s, answers := seen[p.ID]
		out = append(out, Peer{ID: p.ID, Node: p.Member.Name, Address: p.Address, Voting: p.Voting, Healthy: answers, Status: s.status})
	}
	return out
}

// Missing lists the other members that do not answer. There are none before this node
// has looked for the first time.
func (c *Cluster) Missing() []Peer {
	if !c.looked.Load() {
		return nil
	}
	var out []Peer
	for _, p := range c.Peers() {
		if !p.Healthy {
			out = append(out, p)
		}
	}
	return out
}

// StatusIn is what the member said of a vBucket; nil for nothing.
func (p Peer) StatusIn(vBucket string) *serverpb.VBucketStatus { return vBucketIn(p.Status, vBucket) }

// Addresses are where the members serve and speak Raft, host:port, this node among them.
func (c *Cluster) Addresses() []string {
	var out []string
	for _, p := range c.lastKnown().Peers {
		for _, address := range []string{p.Address, p.Member.Address, p.Member.RaftAddress} {
			if address != "" {
				out = append(out, address)
			}
		}
	}
	return out
}
