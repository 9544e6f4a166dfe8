package faults

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind says what a fault does.
type Kind string

const (
	// Silent: the node hears and says nothing, as if its process were paused.
	Silent Kind = "silent"
	// Partition: no other node reaches the Raft port, and the node reaches no other one.
	// Clients still reach it.
	Partition Kind = "partition"
	// Unreachable: the node does not reach the one at Fault.Address, which refuses it.
	Unreachable Kind = "unreachable"
	// SlowDisk: each sync of the Raft log takes Fault.Delay longer.
	SlowDisk Kind = "slow-disk"
)

var kinds = []Kind{Silent, Partition, Unreachable, SlowDisk}

// What bounds a fault, whatever is asked for.
const (
	Longest   = time.Minute
	MostDelay = 2 * time.Second
)

// Fault is what is wrong with a node, and for how long.
type Fault struct {
	Kind Kind
	// For is how long the fault lasts, up to Longest.
	For time.Duration
	// Address is the node that an Unreachable one concerns, as this node calls it: host:port.
	Address string
	// Delay is that of a SlowDisk, up to MostDelay.
	Delay time.Duration
	// Exempt is the other side of the connection that a fault does not concern, so that the
	// caller is told how it goes and can end it; empty for none.
	Exempt string
}

// Check returns an error for what no drill may ask for.
func (f Fault) Check() error {
	switch {
	case !slices.Contains(kinds, f.Kind):
		return fmt.Errorf("%q is not a fault: there are %s", f.Kind, names())
	case f.For <= 0 || f.For > Longest:
		return fmt.Errorf("a fault lasts up to %s, not %s", Longest, f.For)
	case f.Kind == Unreachable && f.Address == "":
		return fmt.Errorf("the fault %s needs the address of the node that cannot be reached", f.Kind)
	case f.Kind == SlowDisk && (f.Delay <= 0 || f.Delay > MostDelay):
		return fmt.Errorf("the fault %s delays syncs by up to %s, not by %s", f.Kind, MostDelay, f.Delay)
	}
	return nil
}

func names() string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = string(k)
	}
	return strings.Join(out, ", ")
}

// String says in words what the fault does.
func (f Fault) String() string {
	text := map[Kind]string{
		Silent:      "this node hears and says nothing",
		Partition:   "this node and the other nodes do not reach each other",
		Unreachable: "this node does not reach " + f.Address,
		SlowDisk:    "each sync of the Raft log takes " + f.Delay.String() + " longer",
	}[f.Kind]
	return cmp.Or(text, string(f.Kind))
}
