package bootstrap

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/timing"
)

// Identity is what a node is in its cluster. Its fields do not change. Methods
// are safe for concurrent use.
type Identity struct {
	// UUID is that of this node's disk.
	UUID string
	// ClusterName is as in the settings.
	ClusterName string
	Database    string
	VBuckets    int
	// Deployment is the random number of the cluster; not 0.
	Deployment uint64
	// Replica is the node's number in each Raft group; not 0.
	Replica uint64
	// URL is the node's Raft address, http://host:port in canonical spelling.
	URL string
	// Members are the first members of the cluster, this node among them:
	// replica number to URL. It is empty if Join is set.
	Members map[uint64]string
	// Join means that Raft must be started as joining an existing group.
	Join bool
	// NonVoting means that the node was first started without a vote. It must always
	// be started so: replaying the log promotes it.
	NonVoting bool
	// Founder means that this node invites the other first members.
	Founder bool
	// LogFormat is the format of the log that all members understood when this node
	// became one; 0 in a cluster that is older than formats.
	LogFormat uint32
	// Fresh means that Raft has not been started under this identity.
	Fresh bool

	client  *Client
	version string
	vBucket string
	timing  timing.Setting
	// grpc is where this node serves.
	grpc string
	pace pace
	log  *slog.Logger

	mu   sync.Mutex
	file file
	rec  record
	// notes are what the other members have said.
	notes notes
}

// Address is the host:port of URL, as the Raft library takes it.
func (id *Identity) Address() string { return hostPort(id.URL) }

// GRPC is where this node serves gRPC, host:port.
func (id *Identity) GRPC() string { return id.grpc }

// InitialMembers are Members by host:port, as the Raft library takes them.
func (id *Identity) InitialMembers() map[uint64]string {
	out := make(map[uint64]string, len(id.Members))
	for replica, u := range id.Members {
		out[replica] = hostPort(u)
	}
	return out
}

// MarkStarted writes down that Raft runs under this identity: from then on, a missing
// Raft log means forgotten votes, and Enter returns an error. Call it when the Raft
// log's folder has been made and before any replica starts.
func (id *Identity) MarkStarted() error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.rec.Started {
		return nil
	}
	return id.change(func(r *record) { r.Started = true })
}

// NoteRemoved writes down that the cluster has removed the node: Enter rejects this disk
// from then on. Later calls change nothing.
func (id *Identity) NoteRemoved(at time.Time) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if !id.rec.Removed.IsZero() {
		return nil
	}
	return id.change(func(r *record) { r.Removed = at.UTC().Truncate(time.Second) })
}

// RemovedAt is when the node noticed that it was removed; zero if it was not.
func (id *Identity) RemovedAt() time.Time {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.rec.Removed
}

// change writes the record with a change durably. An error leaves the record in
// memory as it was; the file may be either. The caller holds mu.
func (id *Identity) change(f func(*record)) error {
	next := id.rec.clone()
	f(&next)
	if err := id.file.store(next); err != nil {
		return err
	}
	id.rec = next
	return nil
}

// identityOf returns the identity that a member's record holds.
func (s *starter) identityOf(rec record) *Identity {
	id := &Identity{
		UUID: rec.UUID, ClusterName: rec.ClusterName, Database: rec.Database, VBuckets: rec.VBuckets,
		Deployment: rec.Deployment, Replica: rec.Replica, URL: rec.URL, Join: rec.Join,
		NonVoting: rec.NonVoting, Founder: rec.Founder, LogFormat: rec.LogFormat, Fresh: !rec.Started,
		Members: make(map[uint64]string, len(rec.Members)),
		client:  s.client, version: s.Terms.Version, vBucket: s.Terms.VBucket, timing: s.Terms.Timing, grpc: s.Options.Address, pace: s.pace, log: s.log, file: s.file, rec: rec,
	}
	for _, m := range rec.Members {
		id.Members[m.Replica] = m.URL
	}
	return id
}

// Bound returns the disk that each first member was invited on, by replica number. Only
// the founder knows; on every other node it is empty.
func (id *Identity) Bound() map[uint64]string {
	id.mu.Lock()
	defer id.mu.Unlock()
	out := make(map[uint64]string)
	for _, m := range id.rec.Members {
		if m.UUID != "" && m.State != removed {
			out[m.Replica] = m.UUID
		}
	}
	return out
}

// Standing is what a running member knows of a replica.
type Standing int

const (
	// Unknown means that nothing has been heard of the replica.
	Unknown Standing = iota
	// Active means that it has been heard of through Raft.
	Active
	// Removed means that it was removed from the cluster.
	Removed
)

// InviteRest invites the first members that have not accepted yet, until all have or ctx
// ends. Only the founder has anything to do. standing returns what Raft knows about a
// replica, so that an acceptance whose answer was lost is noticed, and a removed member
// is not invited; nil means Unknown.
func (id *Identity) InviteRest(ctx context.Context, standing func(replica uint64) Standing) error {
	if !id.Founder {
		return nil
	}
	if standing == nil {
		standing = func(uint64) Standing { return Unknown }
	}
	var wg sync.WaitGroup
	for replica, u := range id.Members {
		if replica != id.Replica {
			f := &founding{id: id, replica: replica, url: u, standing: standing}
			wg.Go(func() { f.run(ctx) })
		}
	}
	wg.Wait()
	return context.Cause(ctx)
}

// LostDisk says what to do about a node that comes back without its disk.
func LostDisk(replica uint64, url string) string {
	return fmt.Sprintf("this cluster knows replica %d at %s with another disk; if its disk was lost, remove it (dkvctl -removeNode %s), "+
		"start it with --nexus-join and add it again (dkvctl -addNode %s)", replica, url, url, url)
}
