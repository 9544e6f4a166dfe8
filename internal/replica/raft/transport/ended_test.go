package transport

import (
	"testing"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/testkit"
)

// TestEndOfAProcess: a member whose connection has ended has not ended itself while
// something listens at its address.
func TestEndOfAProcess(t *testing.T) {
	ended := make(chan string, 10)
	n := start(t, func(_ *node, o *Options) { o.Ended = func(address string) { ended <- address } })
	member, bystander := start(t), start(t)
	message := batch(1, 10)
	say := func(from *node) {
		message.SourceAddress = from.addr
		before := len(n.received())
		c := from.connect(t.Context(), n.addr)
		if err := c.SendMessageBatch(message); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the message arrives", func() bool { return len(n.received()) > before })
		c.Close()
	}
	say(bystander)
	if n.hasEnded(bystander.addr) {
		t.Error("a member that listens has ended")
	}
	if err := member.Close(); err != nil {
		t.Fatal(err)
	}
	say(member)
	if address := <-ended; address != member.addr {
		t.Errorf("%s has ended, not %s", member.addr, address)
	}
	select {
	case address := <-ended:
		t.Errorf("%s has ended as well", address)
	default:
	}
}

// TestListens: only a member that runs listens, and a closed transport finds none.
func TestListens(t *testing.T) {
	n, other := start(t), start(t)
	f := &Factory{}
	if f.Listens(t.Context(), other.addr) {
		t.Error("found without a transport")
	}
	f.made.Store(n.transport)
	if !f.Listens(t.Context(), other.addr) {
		t.Error("a member that runs is not found")
	}
	if f.Listens(t.Context(), testkit.Refusing(t)) {
		t.Error("found where nothing listens")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if f.Listens(t.Context(), other.addr) {
		t.Error("found by a closed transport")
	}
}

// TestCampaignGoesToTheReplica: as a message that only this host can send, and to no closed
// one.
func TestCampaignGoesToTheReplica(t *testing.T) {
	n := start(t)
	f := &Factory{}
	f.Campaign(1, 2, 3, 4) // without a transport nothing happens
	f.made.Store(n.transport)
	f.Campaign(1, 2, 3, 4)
	got := n.received()
	if len(got) != 1 || len(got[0].Requests) != 1 {
		t.Fatalf("%v", got)
	}
	if m := got[0].Requests[0]; m.Type != raftpb.TimeoutNow || m.ShardID != 1 || m.To != 2 || m.From != 3 || m.Term != 4 {
		t.Errorf("%+v", m)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if f.Campaign(1, 2, 3, 4); len(n.received()) != 1 {
		t.Error("a closed transport hands a message over")
	}
}
