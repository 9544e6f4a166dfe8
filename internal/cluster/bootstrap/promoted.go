package bootstrap

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/durable"
)

// A promotion makes nodes with equal states the first members of a cluster. Its decision, which
// each of them has on disk, takes the place of the invitation: it names every disk and binds it
// to a replica number, once and for all.

// Reserve returns the id that the disk of a folder has as a member of a cluster, and writes it
// down with the Raft address if there is none yet. An error wraps ErrMismatch if the folder is
// a member's already.
func Reserve(dir, url string) (uuid string, err error) {
	f := file{dir, durable.WriteFile}
	rec, there, err := f.load()
	switch {
	case err != nil:
		return "", err
	case there && rec.isMember():
		return "", fmt.Errorf("%w: %s says that this node is replica %d of a cluster", ErrMismatch, f.path(), rec.Replica)
	case there && rec.URL == url:
		return rec.UUID, nil
	case !there:
		rec.UUID = newUUID()
	}
	if rec.URL, err = canonicalURL(url); err != nil {
		return "", fmt.Errorf("nexus-node-url: %w", err)
	}
	return rec.UUID, f.store(rec)
}

// ReservedURL returns the Raft address that Reserve has written down; empty for none.
func ReservedURL(dir string) (string, error) {
	rec, _, err := file{dir: dir}.load()
	return rec.URL, err
}

// Promoted is a cluster that a promotion founds.
type Promoted struct {
	Terms      Terms
	Deployment uint64
	Members    []PromotedMember
}

// PromotedMember is one of its first members.
type PromotedMember struct {
	Replica uint64
	URL     string
	// UUID is the disk's, as Reserve has returned it there.
	UUID string
	// Address is where it serves gRPC.
	Address string
}

// Install makes the disk of a folder a member of the cluster. It is durable and may be repeated.
// An error wraps ErrMismatch if the disk is not the one that the promotion knows, or a member
// of another cluster.
func (p Promoted) Install(dir string, replica uint64) error {
	f := file{dir, durable.WriteFile}
	rec, _, err := f.load()
	if err != nil {
		return err
	}
	next := record{
		UUID: rec.UUID, ClusterName: p.Terms.ClusterName, Database: p.Terms.Database, VBuckets: p.Terms.VBuckets,
		Deployment: p.Deployment, Replica: replica, LogFormat: p.Terms.Format,
	}
	addresses := notes{Addresses: map[uint64]string{}}
	for _, m := range p.Members {
		next.Members = append(next.Members, memberRecord{Replica: m.Replica, URL: m.URL, UUID: m.UUID, State: accepted})
		addresses.Addresses[m.Replica] = m.Address
	}
	self := next.member(replica)
	switch {
	case self == nil || self.UUID != rec.UUID:
		return fmt.Errorf("%w: the promotion knows replica %d with another disk than %s, which %s names", ErrMismatch, replica, rec.UUID, f.path())
	case rec.isMember() && rec.Deployment == p.Deployment && rec.Replica == replica:
		return nil
	case rec.isMember():
		return fmt.Errorf("%w: %s says that this node is replica %d of another cluster", ErrMismatch, f.path(), rec.Replica)
	}
	next.URL = self.URL
	if err := f.storeNotes(addresses); err != nil {
		return err
	}
	return f.store(next)
}

// Files are the names of what this package keeps in a folder.
func Files() []string { return []string{fileName, notesName} }

// Fits returns an error, which wraps ErrUnfit and says what to do, if the node at a url cannot
// be a member of a cluster with these terms.
func (t Terms) Fits(url string, cluster Terms) error { return t.fits(url, cluster) }

// ParseTiming sets the timing of a node by its text, as messages have it; an empty text is none.
func (t *Terms) ParseTiming(text string) { t.Timing = settingOf([]string{text}) }
