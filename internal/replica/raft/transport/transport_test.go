package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMessagesComeInOrder(t *testing.T) {
	a, b := start(t), start(t)
	line := a.connect(t.Context(), b.addr)
	sizes := []int{0, 1, 100, 4 << 10, readBuffer - 1, readBuffer, readBuffer + 1, step, 1 << 20, 5 << 20, 3, 20 << 20, 17}
	for i, size := range sizes {
		if err := line.SendMessageBatch(batch(uint64(i), size)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "all batches come", func() bool { return len(b.received()) == len(sizes) })
	for i, got := range b.received() {
		want := batch(uint64(i), sizes[i])
		if got.Requests[0].LogIndex != uint64(i) || string(got.Requests[0].Entries[0].Cmd) != string(want.Requests[0].Entries[0].Cmd) {
			t.Errorf("batch %d comes as %d, with %d bytes", i, got.Requests[0].LogIndex, len(got.Requests[0].Entries[0].Cmd))
		}
		if got.SourceAddress != want.SourceAddress || got.Requests[0].Commit != want.Requests[0].Commit {
			t.Errorf("batch %d: %+v", i, got.Requests[0])
		}
	}
}

// A frame has room for the largest entry that a log may have, with what goes around it.
func TestLargestEntryFits(t *testing.T) {
	b := raftpb.MessageBatch{SourceAddress: "10.0.0.1:1", Requests: []raftpb.Message{{Entries: []raftpb.Entry{{Cmd: make([]byte, LargestEntry+1)}}}}}
	if size, most := b.SizeUpperLimit(), most[batchFrame]; size > most {
		t.Errorf("a batch of one entry has up to %d bytes, and a frame %d", size, most)
	}
}

// What a handler keeps of a batch is not overwritten by the next one.
func TestMessagesMayBeKept(t *testing.T) {
	a, b := start(t), start(t)
	line := a.connect(t.Context(), b.addr)
	const n = 200
	for i := range uint64(n) {
		if err := line.SendMessageBatch(batch(i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "all batches come", func() bool { return len(b.received()) == n })
	for i, got := range b.received() {
		if want := batch(uint64(i), 100); string(got.Requests[0].Entries[0].Cmd) != string(want.Requests[0].Entries[0].Cmd) {
			t.Fatalf("batch %d was overwritten", i)
		}
	}
}

func TestConnectionIsLostAndMadeAgain(t *testing.T) {
	a, b := start(t), start(t)
	line := a.connect(t.Context(), b.addr)
	if err := line.SendMessageBatch(batch(1, 1)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it comes", func() bool { return len(b.received()) == 1 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the loss shows", func() bool { return line.SendMessageBatch(batch(2, 1)) != nil })
	if _, err := a.GetConnection(t.Context(), b.addr); err == nil {
		t.Error("a node that is down is connected to")
	}
	b.listen(b.opts)
	again := a.connect(t.Context(), b.addr)
	if err := again.SendMessageBatch(batch(3, 1)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it comes", func() bool {
		got := b.received()
		return got[len(got)-1].Requests[0].LogIndex == 3
	})
}

// A peer that is served slowly does not hold up another one.
func TestSlowPeerHoldsUpNoOther(t *testing.T) {
	gate := make(chan struct{})
	b := start(t, func(n *node, _ *Options) {
		n.onBatch = func(b raftpb.MessageBatch) {
			if b.Requests[0].LogIndex == 1 {
				<-gate
			}
		}
	})
	t.Cleanup(func() { close(gate) })
	a := start(t)
	slow, other := a.connect(t.Context(), b.addr), a.connect(t.Context(), b.addr)
	if err := slow.SendMessageBatch(batch(1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := other.SendMessageBatch(batch(2, 1)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the other one's message comes", func() bool {
		got := b.received()
		return len(got) == 1 && got[0].Requests[0].LogIndex == 2
	})
}

// deaf is a node that greets and then does not read.
func deaf(t *testing.T) string {
	t.Helper()
	l := testkit.Listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := readPreface(c); err == nil {
				_, _ = c.Write(encodeAnswer(accepted))
			}
			defer c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// When the sender's context ends a call that waits for the peer returns.
func TestEndUnblocksASender(t *testing.T) {
	a := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	line := a.connect(ctx, deaf(t))
	sent := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		for {
			if err := line.SendMessageBatch(batch(1, 8<<20)); err != nil {
				sent <- err
				return
			}
		}
	}()
	<-started
	cancel()
	if err := <-sent; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the sender was told %v", err)
	}
}

// A peer that takes nothing in ends the connection, so that Raft hears of it.
func TestPeerThatTakesNothingInIsGivenUp(t *testing.T) {
	a := start(t, func(_ *node, o *Options) { o.limits.step = 50 * time.Millisecond })
	line := a.connect(t.Context(), deaf(t))
	testkit.Eventually(t, "sending fails", func() bool { return line.SendMessageBatch(batch(1, 8<<20)) != nil })
}

func TestCloseEndsConnectionsThatAreServed(t *testing.T) {
	b := start(t)
	c := b.entered(forMessages)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, c)
	if err := b.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestAddressInUse(t *testing.T) {
	a := start(t)
	tr := New(Options{}).Create(config.NodeHostConfig{RaftAddress: a.addr, DeploymentID: deployment}, a.takeBatch, a.takeChunk)
	if err := tr.Start(); err == nil {
		t.Error("two listen at one address")
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

// Who does not belong here is told, as far as it can be, and the log says so.
func TestStrangersAreTurnedAway(t *testing.T) {
	for name, c := range map[string]struct {
		send []byte
		log  string
	}{
		"an older release":  {[]byte{0xAE, 0x7D, 0, 100, 0, 0, 0, 0, 0, 0, 0, 9}, "of an older release; stop the cluster, upgrade that node"},
		"HTTP":              {[]byte("GET / HTTP/1.1\r\n\r\n"), "is not DKV's Raft transport"},
		"another cluster":   {preface{version, forMessages, deployment + 1}.encode(), "belongs to another cluster"},
		"a later version":   {preface{version + 1, forMessages, deployment}.encode(), "speaks version 2 of the Raft transport and this node version 1"},
		"a strange purpose": {preface{version, 9, deployment}.encode(), "is not known to this release"},
		"a broken preface":  {append([]byte("DKVr"), make([]byte, prefaceSize)...), "fails its checksum"},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t)
			conn := n.raw()
			if _, err := conn.Write(c.send); err != nil {
				t.Fatal(err)
			}
			wantClosed(t, conn)
			testkit.Eventually(t, "the log says so", func() bool { return n.log.Has(c.log) })
		})
	}
}

// A gRPC client that still calls a node after it has become a member is no stranger: such
// connections come whenever a cluster is founded.
func TestLateInvitationsRaiseNoAlarm(t *testing.T) {
	n := start(t)
	conn := n.raw()
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, conn)
	testkit.Eventually(t, "the log says so", func() bool { return n.log.Has("it makes gRPC calls") })
	if n.log.Has("level=WARN") {
		t.Errorf("a warning: %s", n.log.String())
	}
}

// A node says what is the matter with the one that it connects to.
func TestStrangePeersAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		answer []byte
		want   string
	}{
		"an older release": {nil, "a node of an older release (upgrade it)"},
		"another cluster":  {encodeAnswer(otherDeployment), "belongs to another cluster"},
		"another version":  {encodeAnswer(otherVersion), "upgrade the older one"},
		"too many":         {encodeAnswer(tooMany), "too many Raft connections"},
		"something else":   {[]byte("HTTP/1.1 400 Bad Request\r\n"), "is not DKV's Raft transport"},
		"a later refusal":  {encodeAnswer(99), "code 99"},
	} {
		t.Run(name, func(t *testing.T) {
			l := testkit.Listen(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = readPreface(conn)
				_, _ = conn.Write(c.answer)
				_ = conn.Close()
			}()
			t.Cleanup(func() { l.Close(); <-done })
			_, err := start(t).GetConnection(t.Context(), l.Addr().String())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not say %q", err, c.want)
			}
		})
	}
}

// TestMessagesReachAMemberThatWasRestarted: a connection to the process before it is not used
// any more, not even for one message.
func TestMessagesReachAMemberThatWasRestarted(t *testing.T) {
	n, member := start(t), start(t)
	c := n.connect(t.Context(), member.addr).(*messageLine)
	if err := c.SendMessageBatch(batch(1, 10)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the first message arrives", func() bool { return len(member.received()) == 1 })
	if err := member.Close(); err != nil {
		t.Fatal(err)
	}
	member.listen(Options{Log: slog.New(slog.DiscardHandler), limits: quick})
	testkit.Eventually(t, "the end of the connection is seen", c.gone.Load)
	if err := c.SendMessageBatch(batch(2, 10)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the next message arrives", func() bool { return len(member.received()) == 2 })
}

func TestValidate(t *testing.T) {
	f := New(Options{})
	for range 3 {
		for i := range 2 * validKept {
			if address := fmt.Sprintf("host-%d.example.org:9021", i); !f.Validate(address) {
				t.Errorf("%q is rejected", address)
			}
		}
		for _, address := range []string{"", "host", "host:", ":9021", "host:123456"} {
			if f.Validate(address) {
				t.Errorf("%q is accepted", address)
			}
		}
	}
	const last = "host-31.example.org:9021"
	if n := testing.AllocsPerRun(100, func() { f.Validate(last) }); n > 0 {
		t.Errorf("an address that was accepted before takes %v allocations", n)
	}
}
