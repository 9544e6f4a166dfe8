// Package standby has the vocabulary of standbys: the nodes that a log's owner waits for, and how
// long leases last. DESIGN.md has the rules.
package standby

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/kv"
)

// Phase is how far a node is on its way into the standing set or out of it.
type Phase string

const (
	// Coming means that owners wait for the node, which may not have all that was
	// acknowledged before.
	Coming Phase = "coming"
	// Standing means that it has all that was ever acknowledged.
	Standing Phase = "standing"
	// Leaving means that owners still wait for it, until it is out of the record.
	Leaving Phase = "leaving"
)

// Node is a slave that owners wait for.
type Node struct {
	// Disk is the id of its disk, Address the host:port at which it serves gRPC.
	Disk    string `json:"disk"`
	Address string `json:"address"`
	Phase   Phase  `json:"phase"`
}

// Set is the standing set of a vBucket, a record in its log.
type Set struct {
	// Level is what owners promise; kv.AckAsync promises nothing of standbys.
	Level kv.Ack `json:"level"`
	Nodes []Node `json:"nodes,omitempty"`
	// Down are the addresses of masters and slaves that answers at kv.AckAll do not wait for,
	// since they have been silent while one did.
	Down []string `json:"down,omitempty"`
	// Fallback means that there is no standby, and owners answer as with kv.AckAsync.
	Fallback bool `json:"fallback,omitempty"`
	// Deployment is the id of the masters that the log belongs to.
	Deployment string `json:"deployment"`
	// Registered means that the database has had a record in the registry: one that is
	// missing was lost.
	Registered bool `json:"registered,omitempty"`
	// Leased means that owners answer only with the lease of the record.
	Leased bool `json:"leased,omitempty"`
}

// Record returns what the log keeps.
func (s *Set) Record() []byte {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return raw
}

// DecodeSet reads what Record returns. An empty record is an empty set.
func DecodeSet(record []byte) (Set, error) {
	var s Set
	if len(record) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(record, &s); err != nil {
		return s, fmt.Errorf("the record of standbys %.128q: %w", record, err)
	}
	return s, nil
}

// Find returns the node with a disk, and whether it is in the set.
func (s *Set) Find(disk string) (Node, bool) {
	i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Disk == disk })
	if i < 0 {
		return Node{}, false
	}
	return s.Nodes[i], true
}
