package transport

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/testkit"
)

// frameOf is a whole frame.
func frameOf(t testing.TB, k kind, payload []byte) []byte {
	t.Helper()
	frame := append(make([]byte, headerSize), payload...)
	if err := seal(frame, k); err != nil {
		t.Fatal(err)
	}
	return frame
}

func marshal(t testing.TB, b raftpb.MessageBatch) []byte {
	t.Helper()
	p, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A frame that is not in order ends its connection, and nothing of it is handed over.
func TestBrokenFramesAreRefused(t *testing.T) {
	whole := frameOf(t, batchFrame, marshal(t, batch(1, 10)))
	flipped := append([]byte(nil), whole...)
	flipped[len(flipped)-1] ^= 1
	huge := append([]byte(nil), whole...)
	binary.BigEndian.PutUint32(huge, 1<<31)
	other := batch(1, 10)
	other.DeploymentId++
	addressless := batch(1, 10)
	addressless.Requests[0].To = 0
	inner := batch(1, 10)
	inner.Requests[0].Type = raftpb.InstallSnapshot
	unknown := batch(1, 10)
	unknown.Requests[0].Type = 77
	for name, frame := range map[string][]byte{
		"a flipped bit":              flipped,
		"an impossible length":       huge,
		"another kind":               frameOf(t, chunkFrame, marshal(t, batch(1, 10))),
		"no batch":                   frameOf(t, batchFrame, []byte("nothing of the kind")),
		"another deployment":         frameOf(t, batchFrame, marshal(t, other)),
		"a message to no one":        frameOf(t, batchFrame, marshal(t, addressless)),
		"a message to oneself":       frameOf(t, batchFrame, marshal(t, inner)),
		"a message of unknown type":  frameOf(t, batchFrame, marshal(t, unknown)),
		"an offer where none may be": frameOf(t, offerFrame, Snapshot{}.encode(nil)),
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t)
			c := n.entered(forMessages)
			if _, err := c.Write(frame); err != nil {
				t.Fatal(err)
			}
			wantClosed(t, c)
			if got := n.received(); len(got) != 0 {
				t.Errorf("handed over: %+v", got)
			}
		})
	}
}

// Dragonboat panics for a member that speaks from another address than it has.
func TestMessagesThatDragonboatPanicsForEndTheConnection(t *testing.T) {
	n := start(t, func(n *node, _ *Options) {
		n.onBatch = func(b raftpb.MessageBatch) {
			if b.Requests[0].LogIndex == 1 {
				panic("inconsistent target")
			}
		}
	})
	c := n.entered(forMessages)
	if _, err := c.Write(frameOf(t, batchFrame, marshal(t, batch(1, 10)))); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, c)
	testkit.Eventually(t, "the log says why", func() bool { return n.log.Has("10.0.0.1:1") && n.log.Has("inconsistent target") })
	if err := start(t).connect(t.Context(), n.addr).SendMessageBatch(batch(2, 10)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the node serves on", func() bool { return len(n.received()) == 1 })
}

// Who announces a large message takes no more memory than it sends.
func TestAnnouncedMessagesTakeNoMemory(t *testing.T) {
	n := start(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 3 {
		c := n.entered(forMessages)
		head := make([]byte, headerSize)
		binary.BigEndian.PutUint32(head, uint32(most[batchFrame]))
		binary.BigEndian.PutUint32(head[4:], uint32(batchFrame)<<24)
		if _, err := c.Write(append(head, make([]byte, 1000)...)); err != nil {
			t.Fatal(err)
		}
	}
	// Three of the largest are within the bound; the next one has to wait, and is then
	// turned away.
	c := n.entered(forMessages)
	if _, err := c.Write(frameOf(t, batchFrame, marshal(t, batch(1, 10)))); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a small one comes meanwhile", func() bool { return len(n.received()) == 1 })
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc) - int64(before.TotalAlloc); grown > 16<<20 {
		t.Errorf("%d MiB were taken", grown>>20)
	}
}

// Those who say nothing, or not enough, are not waited for.
func TestSilentConnectionsAreClosed(t *testing.T) {
	n := start(t, func(_ *node, o *Options) {
		o.limits.preface, o.limits.idle, o.limits.step = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	})
	silent, half := n.raw(), n.raw()
	if _, err := half.Write([]byte("DKVr")); err != nil {
		t.Fatal(err)
	}
	idle, begun := n.entered(forMessages), n.entered(forMessages)
	if _, err := begun.Write(frameOf(t, batchFrame, marshal(t, batch(1, 100)))[:20]); err != nil {
		t.Fatal(err)
	}
	offerless := n.entered(forSnapshot)
	wantClosed(t, silent)
	wantClosed(t, half)
	wantClosed(t, idle)
	wantClosed(t, begun)
	wantClosed(t, offerless)
}

// Connections are bounded, and strangers do not displace members.
func TestConnectionsAreBounded(t *testing.T) {
	n := start(t, func(_ *node, o *Options) { o.limits.connections, o.limits.perHost = 3, 3 })
	a := start(t)
	line := a.connect(t.Context(), n.addr)
	for range 20 {
		c := n.raw()
		_, _ = c.Write([]byte("DK"))
	}
	if err := line.SendMessageBatch(batch(1, 1)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the member is served", func() bool { return len(n.received()) == 1 })
	n.transport.mu.Lock()
	open := len(n.open)
	n.transport.mu.Unlock()
	if open > 3 {
		t.Errorf("%d connections are open", open)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frameOf(f, batchFrame, marshal(f, batch(1, 10))))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		if batch, err := decodeBatch(p); err == nil {
			_ = checkBatch(&batch, deployment)
		}
		if chunk, err := decodeChunk(p); err == nil {
			in := incoming{t: &transport{deployment: deployment}}
			_ = in.check(&chunk)
		}
		if s, err := decodeOffer(p); err == nil && string(s.encode(nil)) != string(p) {
			t.Errorf("%x is decoded as %+v", p, s)
		}
		_, _ = decodeVerdict(p)
	})
}
