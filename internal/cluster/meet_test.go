package cluster

import (
	"errors"
	"maps"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

// disk is the data folder of a member that is started again and again.
type disk struct {
	r       *rig
	dir     string
	replica uint64
	url     string
	grpc    string
}

func (r *rig) disk(replica uint64) *disk {
	return &disk{r: r, dir: r.t.TempDir(), replica: replica, url: reserve(r.t, 1)[0]}
}

// copied is the folder as it is now.
func (d *disk) copied() *disk {
	d.r.t.Helper()
	c := &disk{r: d.r, dir: d.r.t.TempDir(), replica: d.replica, url: d.url}
	if err := os.CopyFS(c.dir, os.DirFS(d.dir)); err != nil {
		d.r.t.Fatal(err)
	}
	return c
}

// enter starts the process on the disk; it has asked no member yet.
func (d *disk) enter() *node {
	d.r.t.Helper()
	if err := d.r.start(d.r.identity(bootstrap.Options{Dir: d.dir, URL: d.url, Address: d.grpc}, d.replica)); err != nil {
		d.r.t.Fatal(err)
	}
	return d.r.node(d.replica)
}

// confirm starts the process on the disk, has it ask the others, and take part.
func (d *disk) confirm() (*node, error) {
	d.r.t.Helper()
	n := d.enter()
	err := n.Confirm(testkit.Within(d.r.t, long))
	if err == nil {
		n.TakePart(testkit.Within(d.r.t, long))
	}
	return n, err
}

// mustConfirm does so for a disk that is the newest.
func (d *disk) mustConfirm() *node {
	d.r.t.Helper()
	n, err := d.confirm()
	if err != nil {
		d.r.t.Fatal(err)
	}
	return n
}

// expectOlder fails unless a node has found out that its disk is an older copy, and
// has stopped for that.
func (n *node) expectOlder(t *testing.T, words ...string) {
	t.Helper()
	reason := n.retired.Load()
	if reason == nil {
		t.Fatalf("node %d does not stop", n.id)
	}
	for _, w := range append(words, "-removeNode "+n.self.URL, "--nexus-join") {
		if !errors.Is(*reason, bootstrap.ErrOlderCopy) || !strings.Contains((*reason).Error(), w) {
			t.Errorf("the reason does not say %q: %v", w, *reason)
		}
	}
	for _, raft := range n.rafts {
		raft.set(func() {
			if !errors.Is(raft.retired, bootstrap.ErrOlderCopy) {
				t.Errorf("a replica was retired for %v", raft.retired)
			}
		})
	}
}

// trio is a cluster of three on disks, all started once.
func trio(t *testing.T) (r *rig, disks [4]*disk) {
	t.Helper()
	r = newRig(t, 0, 2)
	for id := uint64(1); id <= 3; id++ {
		disks[id] = r.disk(id)
		for _, g := range r.groups {
			g.set(func() {
				g.peers[id], g.leader = replica.Peer{ID: id, Address: disks[id].url[len("http://"):], Voting: true}, 1
			})
		}
		disks[id].mustConfirm()
	}
	return r, disks
}

func TestConfirmOfANewestDisk(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	for range 3 {
		disks[2].mustConfirm()
		r.stop(2)
	}
	if heard, want := r.node(1).self.Heard()[2], r.node(2).self.Past().Last(); heard != want {
		t.Errorf("member 1 has noted %+v, not %+v", heard, want)
	}
}

// A member that was put back from an older copy is refused by any one that has heard
// of a later start, at each attempt, and when no member answers any more; the newest
// disk is let in again.
func TestConfirmRefusesAnOlderCopy(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	older := disks[2].copied()
	disks[2].mustConfirm()
	r.stop(1, 2)
	n, err := older.confirm()
	if !errors.Is(err, bootstrap.ErrOlderCopy) {
		t.Fatalf("confirmed: %v", err)
	}
	n.expectOlder(t, "member 3 at ", "start 2", "Put the newest data folder back")
	r.stop(2, 3)
	again, err := bootstrap.Enter(t.Context(), bootstrap.Options{Dir: older.dir, URL: older.url, Terms: terms})
	if !errors.Is(err, bootstrap.ErrOlderCopy) {
		t.Errorf("entered again as %v, %v", again, err)
	}
	if err := r.start(r.node(3).self); err != nil {
		t.Fatal(err)
	}
	disks[2].mustConfirm()
}

// Nothing is noted of a start that is refused: one of those asked may not know
// better, and would take the newest disk for the older copy.
func TestARefusedStartIsNotNoted(t *testing.T) {
	r, disks := trio(t)
	r.stop(2, 3)
	older := disks[2].copied()
	disks[2].mustConfirm() // only member 1 hears of it
	r.stop(2)
	disks[3].mustConfirm()
	before := maps.Clone(r.node(3).self.Heard())
	if _, err := older.confirm(); !errors.Is(err, bootstrap.ErrOlderCopy) {
		t.Fatalf("confirmed: %v", err)
	}
	if after := r.node(3).self.Heard(); !maps.Equal(after, before) {
		t.Errorf("member 3 has noted %v", after)
	}
	r.stop(2)
	disks[2].mustConfirm()
}

// An older copy that comes up alone cannot know. It stops as soon as a member asks
// it that knows better, which that does before it takes part itself.
func TestAnOlderCopyStopsWhenOneIsBackThatKnows(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	older := disks[2].copied()
	disks[2].mustConfirm()
	r.stop(1, 2, 3)
	n, err := older.confirm()
	if err != nil {
		t.Fatalf("no other member could know: %v", err)
	}
	// The address of the copy is what stands in the log.
	disks[3].mustConfirm()
	n.expectOlder(t, "member 3 at ", "start 2")
}

// It tells no one from then on that it takes part: members that know no better would take the
// newest disk for the older copy.
func TestAnOlderCopyThatHasStoppedIsNotNoted(t *testing.T) {
	r, disks := trio(t)
	r.stop(1, 2)
	older := disks[2].copied()
	disks[2].mustConfirm() // only member 3 hears of it
	r.stop(2, 3)
	n, err := older.confirm()
	if err != nil {
		t.Fatalf("no other member could know: %v", err)
	}
	disks[3].mustConfirm()
	n.expectOlder(t, "member 3 at ")
	disks[1].mustConfirm()
	before := maps.Clone(r.node(1).self.Heard())
	n.greet(testkit.Within(t, long))
	if after := r.node(1).self.Heard(); !maps.Equal(after, before) {
		t.Errorf("member 1 has noted %v", after)
	}
	r.stop(2)
	disks[2].mustConfirm()
}

// Two members that come up at the same moment find out as well.
func TestAnOlderCopyIsRefusedWhenAllStart(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	older := disks[2].copied()
	disks[2].mustConfirm()
	r.stop(1, 2, 3)
	n, third := older.enter(), disks[3].enter()
	results := make(chan error)
	go func() { results <- third.Confirm(testkit.Within(t, long)) }()
	err := n.Confirm(testkit.Within(t, long))
	if !errors.Is(err, bootstrap.ErrOlderCopy) {
		t.Errorf("confirmed: %v", err)
	}
	if err := <-results; err != nil {
		t.Errorf("the one that knows was not confirmed: %v", err)
	}
	n.expectOlder(t, "start 2")
}

// Of two copies that were both used, the one that was heard of last stays.
func TestOfTwoCopiesTheOneThatWasUsedLastStays(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	older := disks[2].copied()
	disks[2].mustConfirm()
	r.stop(1, 2, 3)
	if _, err := older.confirm(); err != nil { // no member is there to know
		t.Fatal(err)
	}
	r.stop(2)
	for _, id := range []uint64{1, 3} { // their notes are gone, too
		g := r.groups[0]
		g.set(func() { delete(g.records, id) })
		for _, g := range r.groups {
			g.set(func() { m := g.records[2]; m.Starts, m.Start = 0, 0; g.records[2] = m })
		}
		disks[id] = r.disk(id)
		disks[id].mustConfirm()
	}
	older.mustConfirm()
	r.stop(2)
	n, err := disks[2].confirm()
	if !errors.Is(err, bootstrap.ErrOlderCopy) {
		t.Fatalf("the other copy was confirmed: %v", err)
	}
	n.expectOlder(t, "start 3")
}

// The logs are checked first, and again while the node runs.
func TestTheLogTellsAnOlderCopy(t *testing.T) {
	for vBucket := range 2 {
		for _, starting := range []bool{true, false} {
			r, disks := trio(t)
			r.stop(1, 2, 3)
			n := disks[2].enter()
			tell := func() {
				g, last := r.groups[vBucket], n.self.Past().Last()
				g.set(func() { g.records[2] = replica.Member{UUID: last.UUID, Starts: last.Number + 1, Start: 7} })
			}
			if starting {
				tell()
			}
			if err := n.Confirm(testkit.Within(t, long)); errors.Is(err, bootstrap.ErrOlderCopy) != starting {
				t.Fatalf("confirmed: %v", err)
			}
			tell()
			n.greet(t.Context())
			n.expectOlder(t, "the log has heard of start 3")
		}
	}
}

// A member is met at the address that another one knows it by.
func TestConfirmAsksMembersThatOnlyOthersKnow(t *testing.T) {
	r, disks := trio(t)
	r.stop(1, 2)
	older := disks[2].copied()
	disks[2].mustConfirm() // only member 3 hears of it
	r.stop(2)
	disks[1].enter()
	n := older.enter()
	for _, raft := range n.rafts {
		raft.blind = map[uint64]bool{3: true}
	}
	if err := n.Confirm(testkit.Within(t, long)); !errors.Is(err, bootstrap.ErrOlderCopy) {
		t.Fatalf("confirmed: %v", err)
	}
	n.expectOlder(t, "member 3 at ")
}

// A node that took over an address is not told anything, nor is it believed.
func TestMeetIsForMembers(t *testing.T) {
	r, _ := trio(t)
	n := r.node(1)
	past := pastMessage(bootstrap.Past{UUID: "x", Number: 99, IDs: []uint64{1}})
	for _, req := range []*peerpb.MeetRequest{
		{Deployment: deployment + 1, From: 2, To: 1, Past: past, TakesPart: true},
		{Deployment: deployment, From: 2, To: 3, Past: past, TakesPart: true},
	} {
		before := n.self.Heard()
		_, err := n.Meet(t.Context(), req)
		expectError(t, err, kv.Precondition, "replica 1 of cluster")
		if !maps.Equal(n.self.Heard(), before) {
			t.Error("it was believed")
		}
	}
}

// Disks of another node under a member's number are told so.
func TestMeetRefusesAnotherDisk(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	foreign := r.disk(2)
	foreign.url = disks[2].url
	n, err := foreign.confirm()
	if !errors.Is(err, bootstrap.ErrOlderCopy) {
		t.Fatalf("confirmed: %v", err)
	}
	n.expectOlder(t, "with disk", n.self.UUID)
}

// A member's gRPC address may have changed with its host's, while its Raft address is
// a name that stays.
func TestConfirmTriesTheHostOfTheRaftAddress(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	older := disks[2].copied()
	disks[2].mustConfirm()
	r.stop(1, 2)
	g := r.groups[0]
	n := older.enter()
	g.set(func() {
		m := g.records[3]
		host, port, err := net.SplitHostPort(m.Address)
		if err != nil {
			t.Error(err)
		}
		m.RaftAddress, m.Address = net.JoinHostPort(host, "1"), net.JoinHostPort("127.0.0.2", port)
		g.records[3] = m
	})
	if err := n.Confirm(testkit.Within(t, long)); !errors.Is(err, bootstrap.ErrOlderCopy) {
		t.Fatalf("confirmed: %v", err)
	}
}

// A copy that was taken while the node ran knows of its last start. The members that
// have run on remember how far it was.
func TestACopyOfARunningNodeIsRefused(t *testing.T) {
	r, disks := trio(t)
	running := r.node(2)
	copied := disks[2].copied()
	for _, g := range r.groups {
		g.set(func() { g.applied = 500 })
	}
	running.greet(testkit.Within(t, long))
	r.stop(2)

	r.starting = func(n *node) { n.end = 499 }
	n, err := copied.confirm()
	if !errors.Is(err, bootstrap.ErrOlderCopy) {
		t.Fatalf("confirmed: %v", err)
	}
	n.expectOlder(t, "knows of a later state of vBucket b0", "Put the newest data folder back")
	r.stop(2)
	r.starting = func(n *node) { n.end = 500 }
	disks[2].mustConfirm()
}

// A copy from the first moments of a node knows whom to ask at most of those that have
// invited it. The others call it, and it waits for that.
func TestACopyThatKnowsNoOtherIsCalled(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	older := disks[2].copied()
	disks[2].mustConfirm()
	r.stop(2)
	third := r.node(3)
	r.stop(1)
	n := older.enter()
	for _, raft := range n.rafts {
		raft.blind = map[uint64]bool{1: true, 2: true, 3: true}
	}
	confirmed := make(chan error, 1)
	go func() { confirmed <- n.Confirm(testkit.Within(t, long)) }()
	third.greet(testkit.Within(t, long))
	if err := <-confirmed; !errors.Is(err, bootstrap.ErrOlderCopy) {
		t.Errorf("confirmed: %v", err)
	}
}

// Where a member serves since its last start may not stand in the log yet. Whom it has
// told so asks it there.
func TestAMemberIsMetWhereItLastSpokeFrom(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	disks[2].grpc = testkit.Address(t)
	disks[2].mustConfirm()
	if got := r.node(3).self.Addresses()[2]; got != disks[2].grpc {
		t.Errorf("member 3 has noted the address %q, not %q", got, disks[2].grpc)
	}
	r.node(3).greet(testkit.Within(t, long))
	if got := r.node(3).self.Addresses()[2]; got != disks[2].grpc {
		t.Errorf("what stands in the log has taken its place: %q", got)
	}
}
