package cluster

import (
	"context"
	"maps"
	"testing"

	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// silence takes a member's record away, as before it was first announced.
func (r *rig) silence(id uint64) {
	for _, g := range r.groups {
		g.set(func() { delete(g.records, id) })
	}
}

// A first voter that has not announced itself may have voted and acknowledged
// entries already: its number is not given to another disk.
func TestAddNodeRefusesToInviteAnUnannouncedVotersSuccessor(t *testing.T) {
	r := newRig(t, 3, 2)
	url := r.url(3)
	r.stop(3)
	r.silence(3)
	w := r.joiner(func(o *bootstrap.Options) { o.URL = url })
	expectError(t, r.add(1, url), kv.Precondition, "replica 3", "has not announced", "-removeNode "+url)
	r.expect(0)
	w.stop()
	if w.err == nil {
		t.Errorf("an empty disk was invited as replica %d", w.id.Replica)
	}
	if err := r.remove(1, url, false); err != nil {
		t.Fatal(err)
	}
	again := r.joiner(func(o *bootstrap.Options) { o.Dir, o.URL = w.Dir, url })
	if err := r.add(1, url); err != nil {
		t.Fatal(err)
	}
	again.expectMember(t, 4)
}

// A record that another node's attempt has left under a replica's number says
// nothing about the disk of the replica.
func TestAddNodeTrustsNoRecordOfAnotherAddress(t *testing.T) {
	r := newRig(t, 3, 1)
	url := r.url(3)
	r.stop(3)
	w := r.joiner(func(o *bootstrap.Options) { o.URL = url })
	record := w.reservation(t)
	record.RaftAddress = "127.0.0.1:1"
	r.groups[0].set(func() { r.groups[0].records[3] = record })
	expectError(t, r.add(1, url), kv.Precondition, "replica 3", "has not announced")
	w.stop()
}

// form makes a cluster's founder of two nodes, of which the other one has accepted
// its invitation, and returns the founder's identity and the other's disk.
func form(t *testing.T) (founder *bootstrap.Identity, other *bootstrap.Identity) {
	t.Helper()
	urls := reserve(t, 2)
	options := func(url string) bootstrap.Options {
		return bootstrap.Options{Dir: t.TempDir(), URL: url, Peers: urls, Terms: terms}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	type entered struct {
		id  *bootstrap.Identity
		err error
	}
	waits := make(chan entered, 1)
	go func() {
		id, err := bootstrap.Enter(ctx, options(urls[1]))
		waits <- entered{id, err}
	}()
	founder, err := bootstrap.Enter(ctx, options(urls[0]))
	if err != nil {
		t.Fatal(err)
	}
	if err := founder.InviteRest(ctx, nil); err != nil {
		t.Fatal(err)
	}
	e := <-waits
	if e.err != nil {
		t.Fatal(e.err)
	}
	return founder, e.id
}

// The founder alone knows the disks of the first members until they announce
// themselves, so it tells the others through the log.
func TestFounderTellsTheDisksOfFirstMembers(t *testing.T) {
	founder, other := form(t)
	r := newRig(t, 0, 1)
	g := r.groups[0]
	g.leader = 1
	for _, id := range []*bootstrap.Identity{founder, other} {
		g.peers[id.Replica] = replica.Peer{ID: id.Replica, Address: id.Address(), Voting: true}
	}
	if err := r.start(founder); err != nil {
		t.Fatal(err)
	}
	want := replica.Member{RaftAddress: other.Address(), UUID: other.UUID}
	n := r.node(founder.Replica)
	if _, err := n.membership(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.introduce(t.Context())
	if got := n.rafts[0].Members()[other.Replica]; got != want {
		t.Errorf("%+v stands in the log, not %+v", got, want)
	}
	r.expect(0, "record 2")
	// What a member has said itself stays, and one that was removed stays away.
	for _, change := range []func(){
		func() {
			g.records[2] = replica.Member{Name: "n2", Address: "127.0.0.1:1", RaftAddress: other.Address(), UUID: other.UUID}
		},
		func() { delete(g.records, 2); delete(g.peers, 2); g.removed = []uint64{2} },
	} {
		g.set(change)
		before := n.rafts[0].Members()
		if _, err := n.membership(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.introduce(t.Context())
		if got := n.rafts[0].Members(); !maps.Equal(got, before) {
			t.Errorf("the records %+v became %+v", before, got)
		}
	}
	r.expect(0)
}
