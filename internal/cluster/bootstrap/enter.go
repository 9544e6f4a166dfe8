package bootstrap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/certs/nodeport"
	"github.com/dkvdb/dkv/internal/durable"
)

// pace is how long the loops of a first start wait.
type pace struct {
	// waiting and joining are how often a node that waits logs what it waits for.
	waiting, joining time.Duration
	// patience is how long the founder waits before it gives up because a node of its
	// list runs Raft already; look is the time between two checks.
	patience, look time.Duration
	// retry and retryMax are the founder's first and longest pause between two
	// attempts to invite.
	retry, retryMax time.Duration
	// silence is how long a new connection may stay silent.
	silence time.Duration
}

var usualPace = pace{
	waiting: 5 * time.Second, joining: 10 * time.Second,
	patience: 5 * time.Second, look: 200 * time.Millisecond,
	retry: 200 * time.Millisecond, retryMax: 2 * time.Second,
	silence: 5 * time.Second,
}

// starter is one call of Enter.
type starter struct {
	Options
	pace   pace
	client *Client
	file   file
	log    *slog.Logger
	// strange bounds what is logged of strangers at the port.
	strange nodeport.Sometimes
}

// Enter returns what this node is in its cluster: what its identity file says or, on a
// first start, what it is invited to be, which may take until the founder is started or
// the node is added. The Raft port is free when Enter returns. Errors say what to do and
// wrap ErrConfig, ErrMismatch, ErrCorrupt, ErrPortTaken, ErrRejected, ErrRemoved,
// ErrOlderCopy, or the cause of ctx's end.
func Enter(ctx context.Context, o Options) (*Identity, error) {
	return enter(ctx, o, usualPace, durable.WriteFile)
}

func enter(ctx context.Context, o Options, p pace, write func(string, []byte) error) (*Identity, error) {
	if o.Terms.VBuckets <= 0 || o.Dir == "" {
		return nil, fmt.Errorf("%w: a folder and a number of vBuckets are needed, not %q and %d", ErrConfig, o.Dir, o.Terms.VBuckets)
	}
	s := &starter{Options: o, pace: p, file: file{o.Dir, write}, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.Wall == nil {
		s.Wall = time.Now
	}
	s.client = NewClient(o.Certs, s.log)
	var err error
	if s.Peers, err = canonicalPeers(o.Peers); err != nil {
		return nil, err
	}
	if o.URL != "" {
		if s.URL, err = canonicalURL(o.URL); err != nil {
			return nil, fmt.Errorf("nexus-node-url: %w", err)
		}
	}
	rec, there, err := s.file.load()
	if err != nil {
		return nil, err
	}
	raftData := false
	if o.RaftData != nil {
		if raftData, err = o.RaftData(); err != nil {
			return nil, fmt.Errorf("folder of the Raft log: %w", err)
		}
	}
	if there && rec.isMember() {
		return s.begin(s.restart(ctx, rec, raftData))
	}
	return s.begin(s.first(ctx, rec.UUID, raftData))
}

// begin counts this start, durably, before anything is done under the identity, and
// reads the notes about the other members.
func (s *starter) begin(id *Identity, err error) (*Identity, error) {
	if err != nil {
		return nil, err
	}
	if id.notes, err = s.file.loadNotes(); err != nil {
		s.log.Warn("the notes about the other members cannot be read; they are collected again", "error", err)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if err := id.change((*record).begin); err != nil {
		return nil, err
	}
	return id, nil
}

// restart checks that the identity file and the settings belong together.
func (s *starter) restart(ctx context.Context, rec record, raftData bool) (*Identity, error) {
	if rec.Retired != "" {
		return nil, fmt.Errorf("%w: as was found at an earlier start: %s", ErrOlderCopy, strings.TrimPrefix(rec.Retired, ErrOlderCopy.Error()+": "))
	}
	if !rec.Removed.IsZero() {
		return nil, s.removedError(rec)
	}
	if rec.Started && !raftData {
		return nil, fmt.Errorf("%w: %s says that this node is replica %d of %s, but the folder of its Raft log is empty: it would forget "+
			"what it voted for. If nexus-log-dir was changed, change it back; if the disk was lost, %s",
			ErrMismatch, s.file.path(), rec.Replica, rec.ClusterName, restoreIt)
	}
	if rec.LogFormat > max(s.Terms.Format, 1) {
		return nil, fmt.Errorf("%w: %s says that the cluster's log has format %d, and this release (%s) understands %d: upgrade this node",
			ErrMismatch, s.file.path(), rec.LogFormat, s.Terms.Version, s.Terms.Format)
	}
	url := s.URL
	if url == "" {
		url = rec.URL
		// If no entry of the list is this machine, the address has not necessarily
		// changed, and a node that joined need not be in the list.
		if own, err := OwnURL(ctx, s.Peers, s.Host); err == nil && !rec.Join {
			url = own
		}
	}
	for _, c := range []struct{ key, stored, given, advice string }{
		{"nexus-node-url", rec.URL, url, "set it back to what is stored; if the address has really changed, remove the node " +
			"(dkvctl -removeNode " + rec.URL + "), move its data folder away, start it with --nexus-join and add it (dkvctl -addNode " + url + ")"},
		{"nexus-cluster-name", rec.ClusterName, s.Terms.ClusterName, "set it back, or use another data folder"},
		{"database", rec.Database, s.Terms.Database, "set it back, or use another data folder"},
		{"vbuckets", fmt.Sprint(rec.VBuckets), fmt.Sprint(s.Terms.VBuckets), "set it back: it is fixed when the database is created"},
	} {
		if c.stored != c.given {
			return nil, fmt.Errorf("%w: %s says %s %q, and %q is given: %s", ErrMismatch, s.file.path(), c.key, c.stored, c.given, c.advice)
		}
	}
	if urls := rec.urls(); !rec.Join && len(s.Peers) != 0 && !slices.Equal(urls, s.Peers) {
		s.log.Warn("nexus-cluster-url is another list than the cluster was formed with; the stored one is used, "+
			"and members change by dkvctl -addNode and -removeNode", "given", listed(s.Peers), "stored", listed(urls))
	}
	if s.Join {
		s.log.Debug("nexus-join has no effect: this node is a member already", "replica", rec.Replica)
	}
	return s.identityOf(rec), nil
}

// removedError returns the error of a disk whose node was removed from its cluster: it
// can never be used again, also not to join.
func (s *starter) removedError(rec record) error {
	folders := s.Folders
	if folders == "" {
		folders = s.Dir
	}
	of := ""
	if rec.ClusterName != "" {
		of = fmt.Sprintf(" of cluster %q", rec.ClusterName)
	}
	return fmt.Errorf("%w: %s says that replica %d%s noticed it at %s. What is there will never be brought up to date, and a removed replica "+
		"does not come back under its number. To let the node join again, move %s away, start it with --nexus-join, and at a member run dkvctl -addNode %s",
		ErrRemoved, s.file.path(), rec.Replica, of, rec.Removed.Format(time.RFC3339), folders, rec.URL)
}

// first is a start without a membership. uuid is empty if the disk has none.
func (s *starter) first(ctx context.Context, uuid string, raftData bool) (*Identity, error) {
	if raftData {
		return nil, fmt.Errorf("%w: the folder of the Raft log holds data, but %s does not say whose: %s", ErrMismatch, s.file.path(), restoreIt)
	}
	if err := s.ownURL(ctx); err != nil {
		return nil, err
	}
	alone := !s.Join && len(s.Peers) == 1
	if s.StateThere && !alone {
		return nil, fmt.Errorf("%w: the data folder holds a database, but this node belongs to no cluster: its data would be lost or mixed. "+
			"To make a cluster of this database, start the node with nexus-cluster-url naming only itself, then start the others empty "+
			"with --nexus-join and add them (dkvctl -addNode URL); to join without it, move the data folder away", ErrMismatch)
	}
	if uuid == "" {
		uuid = newUUID()
	}
	self := record{UUID: uuid, URL: s.URL}
	if alone {
		return s.found(self)
	}
	// Written before anything is sent: the node that invites this disk can rely on
	// recognising it.
	if err := s.file.store(self); err != nil {
		return nil, err
	}
	i := &invitee{self: self, address: s.Address, terms: s.Terms, peers: s.Peers, state: peerpb.HelloResponse_FORMING, file: s.file, wall: s.Wall, decided: make(chan struct{})}
	if s.Join {
		i.state = peerpb.HelloResponse_JOINING
	} else {
		i.founder = s.URL == s.Peers[0]
	}
	listen := s.Listen
	if listen == "" {
		listen = hostPort(s.URL)
	}
	p, err := s.openPort(ctx, listen, i)
	if err != nil {
		return nil, err
	}
	return s.decide(ctx, p, i)
}

// decide waits until i is invited or rejected, and frees the port.
func (s *starter) decide(ctx context.Context, p *port, i *invitee) (*Identity, error) {
	var err error
	if i.founder {
		err = s.look(ctx, i)
	} else {
		err = s.wait(ctx, i)
	}
	rec, rejected := i.end()
	p.close()
	switch {
	case rejected != nil:
		return nil, rejected
	case err != nil:
		return nil, err
	case i.founder:
		return s.found(i.self)
	}
	s.log.Info("this node is a member now", "replica", rec.Replica, "deployment", rec.Deployment, "voting", !rec.NonVoting)
	return s.identityOf(*rec), nil
}

// ownURL finds this node's own address, and checks that the list names it.
func (s *starter) ownURL(ctx context.Context) (err error) {
	switch {
	case s.URL == "" && len(s.Peers) == 0:
		return fmt.Errorf("%w: set nexus-node-url to the address that the other nodes reach, http://host:port", ErrConfig)
	case s.URL == "" && s.Join:
		return fmt.Errorf("%w: a node that joins needs nexus-node-url: set it to the address that the members reach, http://host:port", ErrConfig)
	case s.URL == "":
		if s.URL, err = OwnURL(ctx, s.Peers, s.Host); err != nil {
			return err
		}
	}
	if s.Join {
		return nil
	}
	if len(s.Peers) == 0 {
		s.Peers = []string{s.URL}
	}
	if !slices.Contains(s.Peers, s.URL) {
		return fmt.Errorf("%w: nexus-node-url %s is not in nexus-cluster-url (%s): add it there on all nodes, or start with --nexus-join "+
			"to be added to the cluster", ErrConfig, s.URL, listed(s.Peers))
	}
	return nil
}

// found makes the cluster, with this node as its founder.
func (s *starter) found(self record) (*Identity, error) {
	rec := self
	rec.ClusterName, rec.Database, rec.VBuckets = s.Terms.ClusterName, s.Terms.Database, s.Terms.VBuckets
	rec.Founder, rec.LogFormat = true, s.Terms.Format
	for rec.Deployment == 0 {
		rec.Deployment = randomID()
	}
	for n, u := range s.Peers {
		m := memberRecord{Replica: uint64(n) + 1, URL: u}
		if u == self.URL {
			rec.Replica = m.Replica
			m.UUID, m.State = self.UUID, accepted
		}
		rec.Members = append(rec.Members, m)
	}
	if err := s.file.store(rec); err != nil {
		return nil, err
	}
	s.log.Info("founded a cluster", "cluster", rec.ClusterName, "deployment", rec.Deployment, "members", listed(s.Peers))
	return s.identityOf(rec), nil
}

// wait returns when i is decided.
func (s *starter) wait(ctx context.Context, i *invitee) error {
	saying, quiet := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.sayWaiting(saying) })
	defer wg.Wait()
	defer quiet()
	select {
	case <-i.decided:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// newUUID returns a random UUID of version 4.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func randomID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}
