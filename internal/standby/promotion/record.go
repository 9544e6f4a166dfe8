// Package promotion makes slaves the masters of their database. Founder is the state
// machine of the node that an operator, or the registry, has chosen: each step is written
// down before it is taken, and taken again after a crash. Record is what it writes,
// Superseded what a former master writes; Of reads both at a start, before the node has a
// role. The rules are in internal/standby/DESIGN.md.
package promotion

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/kv"
)

// The files in the data folder.
const (
	recordFile     = "PROMOTION"
	supersededFile = "SUPERSEDED"
)

// Step is how far a promotion is. It is the last step that is complete.
type Step string

const (
	// Begun: masters may have been sealed.
	Begun Step = "begun"
	// Fenced: no master acknowledges a mutation any more, or force was used.
	Fenced Step = "fenced"
	// Sealed: nothing of the old history is applied here any more.
	Sealed Step = "sealed"
	// Equal: all nodes of the set have the same state.
	Equal Step = "equal"
	// Claiming: the registry was asked for the era, and may have given it.
	Claiming Step = "claiming"
	// Decided: there is no way back.
	Decided Step = "decided"
	// Done: the state has the new history, and the node is a master.
	Done Step = "done"
	// Abandoning: it was given up, and masters may still be sealed.
	Abandoning Step = "abandoning"
	// Recovering: what is left of a cluster becomes a master by itself. It is decided, and a part of
	// it may be done.
	Recovering Step = "recovering"
)

// Record is a promotion as the founder's disk has it.
type Record struct {
	// ID is random; seals bear it.
	ID   string `json:"id"`
	Step Step   `json:"step"`
	// Era and History are those of the new history.
	Era     uint64 `json:"era"`
	History string `json:"history"`
	Force   bool   `json:"force,omitempty"`
	Planned bool   `json:"planned,omitempty"`
	// Nodes become masters together, in the order of their numbers; the founder is the first.
	// Empty if the founder becomes a standalone node.
	Nodes []Node `json:"nodes,omitempty"`
	// Replica is this node's number among them, Deployment the random number of their
	// cluster, and Format that of its log.
	Replica    uint64 `json:"replica,omitempty"`
	Deployment uint64 `json:"deployment,omitempty"`
	Format     uint32 `json:"format,omitempty"`
	// Untold are the addresses of nodes that may be sealed and have not acknowledged yet that
	// the promotion is decided, or given up.
	Untold []string `json:"untold,omitempty"`
	// Earlier are promotions of this node that were given up before, whose seals have not all
	// ended.
	Earlier []Left `json:"earlier,omitempty"`
	// Masters are the former masters, host:port, that have not acknowledged that they are
	// sealed, or unsealed, or have yielded: what the present step asks of them.
	Masters []string `json:"masters"`
	// Stopped are the former masters that may have stopped, by address, with the token of the
	// stop: empty of one that was not counted.
	Stopped map[string]string `json:"stopped,omitempty"`
	// Cuts are by vBucket.
	Cuts map[string]Cut `json:"cuts,omitempty"`
	// Fence says how the masters were fenced; empty if they were not.
	Fence string `json:"fence,omitempty"`
	// Unsynced: the record is the fence, and the masters have acknowledged what this node may not
	// have had on disk.
	Unsynced bool `json:"unsynced,omitempty"`
	// Leased: a master has said that the database has a record in the registry.
	Leased bool `json:"leased,omitempty"`
	// Standby: the registry has chosen this node, and no operator.
	Standby bool `json:"standby,omitempty"`
	// Claim is what is claimed of the registry; nil without a record there. Until then it is the
	// record as it was before the masters were sealed.
	Claim *Claim `json:"claim,omitempty"`
	// Recovery is set if no slave was promoted, but a member recovered that is left of its cluster.
	Recovery *Recovery `json:"recovery,omitempty"`
}

// Recovery is where a recovery begins.
type Recovery struct {
	// Token confirms what the operator was shown.
	Token string `json:"token"`
	// Deployment and Replica are the cluster that has ended and the member's number in it, URL its
	// Raft address.
	Deployment uint64 `json:"deployment"`
	Replica    uint64 `json:"replica"`
	URL        string `json:"url"`
	// Entries are, by vBucket, the last entry of the Raft log that is kept.
	Entries map[string]uint64 `json:"entries"`
}

// Left is what a promotion that was given up may have left sealed.
type Left struct {
	ID      string   `json:"id"`
	Slaves  []string `json:"slaves,omitempty"`
	Masters []string `json:"masters,omitempty"`
	Stopped []string `json:"stopped,omitempty"`
}

// left returns what is to be unsealed if the promotion is given up.
func (r *Record) left() []Left {
	return append([]Left{{ID: r.ID, Slaves: r.Untold, Masters: r.Masters, Stopped: slices.Sorted(maps.Keys(r.Stopped))}}, r.Earlier...)
}

// mayBeSealed are the nodes that the promotion, or an earlier one, may have left sealed.
func (r *Record) mayBeSealed() (out []string) {
	for _, l := range r.left() {
		out = union(out, slices.Concat(l.Slaves, l.Masters, l.Stopped))
	}
	return out
}

// Cut is where the old history of a vBucket ends.
type Cut struct {
	// Former is the old history, Seal the index at which its owner was sealed, or the end of
	// the best log of masters that have stopped; 0 for neither. Source is where that log is.
	Former string   `json:"former"`
	Seal   kv.Index `json:"seal,omitempty"`
	Source string   `json:"source,omitempty"`
	// Digest is that of the newest change up to Seal; 0 if that is not known.
	Digest uint64 `json:"digest,omitempty"`
	// End is the last index of the old history that the new one has, and Clock the log's
	// clock there.
	End   kv.Index `json:"end,omitempty"`
	Clock kv.Clock `json:"clock,omitempty"`
}

// uncut returns the cuts as they are before the masters are fenced.
func (r *Record) uncut() map[string]Cut {
	out := map[string]Cut{}
	for name, cut := range r.Cuts {
		out[name] = Cut{Former: cut.Former}
	}
	return out
}

// Superseded is what a former master has yielded to.
type Superseded struct {
	Era     uint64 `json:"era"`
	History string `json:"history"`
	// Masters are where the new masters serve, host:port.
	Masters []string `json:"masters"`
	// Members are the other members of the own cluster, host:port: they have to yield too.
	Members []string `json:"members,omitempty"`
	// Ends are the last indexes that the new history has, by vBucket.
	Ends map[string]kv.Index `json:"ends"`
	// Rejoin: an operator wants the node to become a slave of the new masters. Exported:
	// what they lack of the old data was written out. Rejoined: the node is their slave.
	Rejoin   bool `json:"rejoin,omitempty"`
	Exported bool `json:"exported,omitempty"`
	Rejoined bool `json:"rejoined,omitempty"`
}

// Write replaces the record in a data folder.
func (r *Record) Write(dir string) error { return write(dir, recordFile, r) }

// Write replaces what the node has yielded to in a data folder.
func (s *Superseded) Write(dir string) error { return write(dir, supersededFile, s) }

func write(dir, name string, content any) error {
	raw, err := json.Marshal(content)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, name), append(raw, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Part is what has become of a node, beyond what its configuration says. Both are set only
// on a former master that is a slave, and has begun a promotion that is not decided.
type Part struct {
	Promotion  *Record
	Superseded *Superseded
	// Stopped is the promotion that has stopped the node, or had; nil for none.
	Stopped *Stopped
}

// Of reads what has become of the node with a data folder, which need not exist. Of a
// promotion and a master that the node has yielded to, the one of the greater era holds; what
// the node has yielded to also holds until a later promotion is decided.
func Of(dir string) (Part, error) {
	var p Part
	if err := read(dir, recordFile, &p.Promotion); err != nil {
		return Part{}, err
	}
	if err := read(dir, supersededFile, &p.Superseded); err != nil {
		return Part{}, err
	}
	if err := read(dir, stoppedFile, &p.Stopped); err != nil {
		return Part{}, err
	}
	if p.Promotion != nil && p.Superseded != nil {
		switch later := p.Promotion.Era > p.Superseded.Era; {
		case !later:
			p.Promotion = nil
		case p.Promotion.Step == Decided || p.Promotion.Step == Recovering || p.Promotion.Step == Done:
			p.Superseded = nil
		}
	}
	return p, nil
}

func read[T any](dir, name string, into **T) error {
	path := filepath.Join(dir, name)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // no folder has no record
		return nil
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; check the owner and the permissions of %s: dkvsrv has to run as the user that owns it (ls -ld %[2]s; chown -R USER %[2]s)", err, dir)
	case err != nil: // it may well be whole
		return fmt.Errorf("%w; it says what this node has become, so the node does not start without it", err)
	}
	*into = new(T)
	if err := json.Unmarshal(raw, *into); err != nil {
		return fmt.Errorf("%s: %w; it says what this node has become, so the node does not start without it: restore the file, or empty db-folder and start a new slave", path, err)
	}
	return nil
}

// remove removes the record: the promotion was given up.
func remove(dir string) error {
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(dir)
}

// NewMasters is the id of the new masters in the registry: that of their cluster, which a member
// that is added later has too, or of the promotion if the founder is alone.
func (r *Record) NewMasters() string {
	if len(r.Nodes) == 0 {
		return r.ID
	}
	return fmt.Sprintf("%016x", r.Deployment)
}

// Sealed reports whether the masters were sealed, or have stopped.
func (r *Record) Sealed() bool { return r.Fence == fencedBySeal || r.Fence == fencedByStop }

// Under reports whether a promotion has begun that is not decided.
func (r *Record) Under() bool {
	return r != nil && (r.Step == Begun || r.Step == Fenced || r.Step == Sealed || r.Step == Equal || r.Step == Claiming)
}

// Self is what this node becomes among the nodes of a set; zero if it is alone.
func (r *Record) Self() Node {
	for _, n := range r.Nodes {
		if n.Replica == r.Replica {
			return n
		}
	}
	return Node{}
}

// Addresses are where the new masters serve gRPC; empty if this node is alone.
func (r *Record) Addresses() (out []string) {
	if r.Recovery != nil {
		return nil
	}
	for _, n := range r.Nodes {
		out = append(out, n.Address)
	}
	return out
}
