package slave

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// held is a state whose Apply waits.
type held struct {
	*follower.Replica
	mu   sync.Mutex
	gate chan struct{}
}

func (h *held) wrap(f *follower.Replica) { h.Replica = f }

func (h *held) hold() (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	gate := make(chan struct{})
	h.gate = gate
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gate = nil
		close(gate)
	})
}

func (h *held) Apply(ctx context.Context, after kv.Index, changes []kv.Change, upTo kv.Index) error {
	h.await()
	return h.Replica.Apply(ctx, after, changes, upTo)
}

// await waits while Apply is held.
func (h *held) await() {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

// What a slave has confirmed as received is applied, also if the master dies before.
func TestReceivedChangesOutliveTheMaster(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	state := new(held)
	s := r.slave(source.Fixed("m1:1"), streaming, reporting(t, r), func(o *Options, _ *follower.Options) { o.State = state })
	s.has(m)
	release := state.hold()
	defer release()
	m.put("b", "1")
	testkit.Eventually(t, "a change is received", func() bool {
		p, ok := s.Puller.Progress()
		return ok && p.Received > p.Applied
	})
	at := m.put("b", "2")
	testkit.Eventually(t, "another one is received", func() bool { p, _ := s.Puller.Progress(); return p.Received >= at })
	m.kill()
	release()
	testkit.Eventually(t, "what was received is applied", func() bool { _, now := s.Position(); return now >= at })
}

// A seal waits for what was confirmed as received.
func TestSealAppliesWhatWasConfirmed(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	state := new(held)
	s := r.slave(source.Fixed("m1:1"), streaming, reporting(t, r), inFolder(t), func(o *Options, _ *follower.Options) { o.State = state })
	s.has(m)
	release := state.hold()
	defer release()
	at := m.put("b", "1")
	testkit.Eventually(t, "the change is received", func() bool { p, _ := s.Puller.Progress(); return p.Received >= at })
	sealed := make(chan error, 1)
	go func() { sealed <- s.Puller.Seal(context.Background(), "p1") }()
	testkit.Eventually(t, "nothing more is confirmed", func() bool { _, ok := s.Puller.Progress(); return !ok })
	time.AfterFunc(10*time.Millisecond, release)
	if err := <-sealed; err != nil {
		t.Fatal(err)
	}
	if _, now := s.Position(); now < at {
		t.Errorf("sealed at %d, and %d was confirmed as received", now, at)
	}
	if err := s.Puller.Seal(t.Context(), "p2"); !errors.Is(err, follower.ErrSealed) {
		t.Errorf("another promotion: %v", err)
	}
}

// A seal never cuts off what was confirmed as received: while the disk stalls, nothing is sealed, and
// the error says what is waited for.
func TestNothingIsSealedBeforeWhatWasConfirmedIsApplied(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	state := new(held)
	s := r.slave(source.Fixed("m1:1"), streaming, reporting(t, r), inFolder(t), func(o *Options, _ *follower.Options) { o.State = state })
	s.has(m)
	release := state.hold()
	defer release()
	m.put("b", "1")
	testkit.Eventually(t, "the change is received", func() bool { p, _ := s.Puller.Progress(); return p.Received > p.Applied })
	at := m.put("b", "2")
	testkit.Eventually(t, "another one is received", func() bool { p, _ := s.Puller.Progress(); return p.Received >= at })
	m.kill()
	err := s.Puller.Seal(t.Context(), "p1")
	if kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied || s.Sealed() != "" {
		t.Errorf("sealed by %q, %v", s.Sealed(), err)
	}
	release()
	testkit.Eventually(t, "the copy is sealed", func() bool { return s.Puller.Seal(t.Context(), "p1") == nil })
	if p, err := s.Puller.Reached(t.Context()); err != nil || p.Applied < at || p.Confirmed < at {
		t.Errorf("sealed at %d, and %d of %d was confirmed as received: %v", p.Applied, p.Confirmed, at, err)
	}
}

// part is a state whose Apply finds the disk full after the first change, once it is armed.
type part struct {
	*follower.Replica
	armed, failed atomic.Bool
}

func (p *part) wrap(f *follower.Replica) { p.Replica = f }

func (p *part) Apply(ctx context.Context, after kv.Index, changes []kv.Change, upTo kv.Index) error {
	if len(changes) < 2 || !p.armed.Load() || p.failed.Swap(true) {
		return p.Replica.Apply(ctx, after, changes, upTo)
	}
	if err := p.Replica.Apply(ctx, after, changes[:1], changes[0].Index); err != nil {
		return err
	}
	return fmt.Errorf("%w (injected)", storage.ErrNoSpace)
}

// What was confirmed as received is applied although the disk was full for a moment, also if the
// master has died meanwhile.
func TestReceivedChangesOutliveAFullDisk(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	state := new(heldPart)
	s := r.slave(source.Fixed("m1:1"), streaming, reporting(t, r), func(o *Options, _ *follower.Options) { o.State = state })
	s.has(m)
	release := state.hold()
	defer release()
	m.put("b", "1")
	testkit.Eventually(t, "a change is received", func() bool { p, _ := s.Puller.Progress(); return p.Received > p.Applied })
	m.put("b", "2")
	at := m.put("b", "3")
	testkit.Eventually(t, "others are received", func() bool { p, _ := s.Puller.Progress(); return p.Received >= at })
	state.part.armed.Store(true)
	m.kill()
	testkit.Eventually(t, "the session ends", func() bool { _, ok := s.Puller.Progress(); return !ok })
	release()
	testkit.Eventually(t, "what was received is applied", func() bool { _, now := s.Position(); return now >= at })
	if !state.part.failed.Load() {
		t.Error("the disk was never full")
	}
}

// heldPart is a state whose Apply waits, and finds the disk full then.
type heldPart struct {
	held
	part part
}

func (h *heldPart) wrap(f *follower.Replica) { h.held.wrap(f); h.part.wrap(f) }

func (h *heldPart) Apply(ctx context.Context, after kv.Index, changes []kv.Change, upTo kv.Index) error {
	h.await()
	return h.part.Apply(ctx, after, changes, upTo)
}

// What a failed disk has lost does not hold a seal up for ever: the copy says up to where it had
// confirmed.
func TestSealSaysWhatAFailedDiskHasLost(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	state := new(lossy)
	s := r.slave(source.Fixed("m1:1"), streaming, reporting(t, r), inFolder(t), func(o *Options, _ *follower.Options) { o.State = state })
	s.has(m)
	release := state.hold()
	defer release()
	at := m.put("b", "1")
	testkit.Eventually(t, "the change is received", func() bool { p, _ := s.Puller.Progress(); return p.Received >= at })
	m.kill()
	state.failed.Store(true)
	release()
	testkit.Eventually(t, "the copy is sealed", func() bool { return s.Puller.Seal(t.Context(), "p1") == nil })
	if p, err := s.Puller.Reached(t.Context()); err != nil || p.Applied >= at || p.Confirmed < at {
		t.Errorf("sealed at %d, and %d of %d was confirmed as received: %v", p.Applied, p.Confirmed, at, err)
	}
	testkit.Eventually(t, "the loss is logged", func() bool { return strings.Contains(r.logs.String(), "confirmed as received") })
}

// lossy is a state that can apply nothing more once it has failed.
type lossy struct {
	held
	failed atomic.Bool
}

func (l *lossy) Apply(ctx context.Context, after kv.Index, changes []kv.Change, upTo kv.Index) error {
	if l.await(); l.failed.Load() {
		return kv.Errorf(kv.Internal, "the disk has failed (injected)")
	}
	return l.Replica.Apply(ctx, after, changes, upTo)
}
