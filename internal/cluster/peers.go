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
	// Node is the member's node-name; empty while it is not known.
	Node    string
	Address string
	Voting  bool
	// GRPC and HTTP are where it serves, host:port, and DC is its data centre; empty while
	// they are not known.
	GRPC, HTTP, DC string
	// Healthy reports whether it has answered within the last seconds.
	Healthy bool
	// Status is what it answered; nil for nothing.
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
		out = append(out, Peer{
			ID: p.ID, Node: p.Member.Name, Address: p.Address, Voting: p.Voting,
			GRPC: p.Member.Address, HTTP: p.Member.HTTPAddress, DC: p.Member.DC,
			Healthy: answers, Status: s.status,
		})
	}
	return out
}

// Seen lists the other members as they were when this node last asked them, up to two seconds
// ago, and returns false before it has done so for the first time.
func (c *Cluster) Seen() ([]Peer, bool) {
	looked := c.looked.Load() // first: what is seen is stored before it
	return c.Peers(), looked
}

// Missing lists the other members that do not answer; none before this node has asked
// them for the first time.
func (c *Cluster) Missing() []Peer {
	peers, looked := c.Seen()
	if !looked {
		return nil
	}
	var out []Peer
	for _, p := range peers {
		if !p.Healthy {
			out = append(out, p)
		}
	}
	return out
}

// StatusIn returns the member's status of a vBucket; nil for none.
func (p Peer) StatusIn(vBucket string) *serverpb.VBucketStatus { return vBucketIn(p.Status, vBucket) }

// Addresses returns where all members, this node among them, serve gRPC and Raft,
// host:port.
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
