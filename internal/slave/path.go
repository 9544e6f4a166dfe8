package slave

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
)

// Link is how far a copy is behind the node that it follows.
type Link struct {
	// Lag is by how many changes, Age for how long it may have been.
	Lag uint64
	Age time.Duration
}

// upstream is what a master has answered of itself.
type upstream struct {
	// path are the nodes by which changes reach its followers, itself first.
	path   []string
	newest kv.Index
	age    time.Duration
}

// errCircle means that a slave gets its changes from this one.
var errCircle = errors.New("its changes come from this node")

// maxPath bounds a path: slaves that follow each other under several names would make it grow
// without an end.
const maxPath = 16

// heardPath notes by which way the master gets its changes. A circle of slaves would go on
// without a master for ever, each taking the other's newest change for the newest.
func (s *session) heardPath(resp *serverpb.GetChangesResponse) error {
	path := resp.GetPath()
	switch self := selfOf(s.opts.Self); {
	case s.opts.Self != nil && slices.Contains(path, self):
		return kv.Errorf(kv.Unavailable, "%s cannot be followed: %w (by %q)", s.source.Address, errCircle, path)
	case len(path) > maxPath:
		return kv.Errorf(kv.Unavailable, "%s cannot be followed: it gets its changes by way of %d nodes, and %d is the limit (%w?)", s.source.Address, len(path), maxPath, errCircle)
	case len(path) == 0:
		path = []string{s.source.Address}
	}
	s.above = upstream{path: path, newest: resp.GetMasterChangeNumber(), age: ageOf(resp)}
	s.status.hearsFrom(s.source.Address, s.above)
	return nil
}

// hearsFrom notes what a master has answered, if it is the one that is followed.
func (t *tracker) hearsFrom(master string, u upstream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.s.Phase == Following && t.s.Master == master {
		t.upstream = u
	}
}

// above returns what the master that is followed has answered last.
func (t *tracker) above() upstream {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.upstream
}

// link returns the way of the changes of a copy that is at an index and may be out of date
// for an age. t.mu is held.
func (t *tracker) link(at kv.Index, age time.Duration) (path []string, l Link) {
	if t.s.Phase != Following || len(t.upstream.path) == 0 {
		return nil, l
	}
	return t.upstream.path, Link{Lag: era.Distance(at, t.upstream.newest), Age: max(age-t.upstream.age, 0)}
}

// Path returns the nodes by which changes reach the followers of this copy, this node first.
func (p *Puller) Path() []string {
	if p.opts.Self == nil {
		return nil
	}
	return append([]string{selfOf(p.opts.Self)}, p.Status().Path...)
}

// selfOf returns a slave's own address.
func selfOf(r *serverpb.Replica) string {
	return net.JoinHostPort(r.GetHostname(), strconv.Itoa(int(r.GetPort())))
}

// Addresses returns the nodes that the puller asks and names: its masters, the one that it follows
// and the leader, some of them maybe empty or more than once.
func (p *Puller) Addresses() []string {
	out := []string{p.Status().Master, p.Leader()}
	for _, s := range p.candidates() {
		out = append(out, s.Address)
	}
	return out
}
