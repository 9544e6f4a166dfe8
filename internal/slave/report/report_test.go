package report

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// copied is a copy whose progress a test sets.
type copied struct {
	name     string // empty stands for "default"
	mu       sync.Mutex
	owner    string
	progress Progress
	wanted   Wanted
	syncs    int
}

func (c *copied) Name() string { return cmp.Or(c.name, "default") }

func (c *copied) Leader() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owner
}

func (c *copied) Progress() (Progress, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.progress, true
}

func (c *copied) Sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.syncs++
	c.progress.Synced = c.progress.Applied
	return nil
}

func (c *copied) Want(_ string, w Wanted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = w
}

func (c *copied) set(owner string, p Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owner, c.progress = owner, p
}

// apply has an owner's copy apply what is not synced yet.
func (c *copied) apply(owner string, upTo kv.Index) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owner, c.progress.Received, c.progress.Applied = owner, upTo, upTo
}

func (c *copied) has(is func(*copied) bool) func() bool {
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return is(c)
	}
}

// owner keeps the last confirmation under each start.
type owner struct {
	peerpb.UnimplementedStandbyServer
	// says is what it says when; nil says nothing but answers.
	says    chan *peerpb.Wanted
	mu      sync.Mutex
	starts  []uint64
	last    *peerpb.Confirmation
	open    int
	answers *peerpb.Wanted
	// refuses ends each stream at once.
	refuses error
}

func (o *owner) Confirm(stream grpc.BidiStreamingServer[peerpb.Confirmation, peerpb.Wanted]) error {
	o.mu.Lock()
	o.open++
	answers, refuses := o.answers, o.refuses
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.open--
	}()
	if refuses != nil {
		return refuses
	}
	if answers != nil {
		if err := stream.Send(answers); err != nil {
			return err
		}
	}
	var saying sync.WaitGroup
	defer saying.Wait()
	ended := make(chan struct{})
	defer close(ended)
	saying.Go(func() {
		for {
			select {
			case w := <-o.says:
				_ = stream.Send(w) // the stream's end shows in Recv
			case <-ended:
				return
			}
		}
	})
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil
		}
		o.mu.Lock()
		if m.GetStart() != 0 {
			o.starts = append(o.starts, m.GetStart())
		}
		o.last = m
		o.mu.Unlock()
	}
}

func (o *owner) has(is func(*owner) bool) func() bool {
	return func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return is(o)
	}
}

// start reports copies to owners, by address.
func start(t *testing.T, owners map[string]*owner, copies ...VBucket) *Reporter {
	t.Helper()
	listeners := make(map[string]*bufconn.Listener)
	for address, o := range owners {
		l := bufconn.Listen(1 << 16)
		listeners[address] = l
		servertest.Start(t, servertest.Options{Listener: l, Register: func(s grpc.ServiceRegistrar) { peerpb.RegisterStandbyServer(s, o) }})
	}
	pool := peer.NewPool(peer.Options{MaxMessageSize: 1 << 20, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		if l := listeners[address]; l != nil {
			return l.DialContext(ctx)
		}
		return nil, errors.New("no route to host")
	}})
	t.Cleanup(func() { pool.Close() })
	r := New(Options{Disk: "d", Address: "s:1", Pool: pool, Log: slog.New(slog.DiscardHandler)}, copies...)
	testkit.Run(t, func(ctx context.Context) error { r.Run(ctx); return nil })
	return r
}

// An owner holds that what was confirmed under one start stays true. So a copy that goes back
// is reported under another start.
func TestACopyThatGoesBackIsAnotherStart(t *testing.T) {
	o, c := new(owner), new(copied)
	c.set("o:1", Progress{History: "h", Received: 9, Applied: 9, Synced: 5})
	r := start(t, map[string]*owner{"o:1": o}, c)
	testkit.Eventually(t, "the copy is reported", o.has(func(o *owner) bool { return o.last.GetReceived() == 9 }))
	c.set("o:1", Progress{History: "h", Received: 6, Applied: 6, Synced: 5})
	r.Moved(0)
	testkit.Eventually(t, "it is reported under another start", o.has(func(o *owner) bool {
		return o.last.GetReceived() == 6 && len(o.starts) == 2 && o.starts[0] != o.starts[1]
	}))
}

// A copy is reported to the owner of its log alone, and what that wants is done.
func TestReportsFollowTheOwner(t *testing.T) {
	first := new(owner)
	second := &owner{answers: &peerpb.Wanted{VBucket: "default", Listed: true, Sync: true}}
	c := new(copied)
	c.set("a:1", Progress{History: "h", Received: 3, Applied: 3})
	r := start(t, map[string]*owner{"a:1": first, "b:1": second}, c)
	testkit.Eventually(t, "the first owner is told", first.has(func(o *owner) bool { return o.last.GetApplied() == 3 }))
	c.set("b:1", Progress{History: "h", Received: 4, Applied: 4})
	r.Moved(0)
	testkit.Eventually(t, "the second owner is told of what it wants synced", second.has(func(o *owner) bool { return o.last.GetSynced() == 4 }))
	testkit.Eventually(t, "the stream to the first has ended", first.has(func(o *owner) bool { return o.open == 0 }))
	first.mu.Lock()
	defer first.mu.Unlock()
	if first.last.GetApplied() > 3 {
		t.Errorf("the former owner was told of %v", first.last)
	}
}

// moving is a copy v1 that the owner a:1 wants synced, and a copy v2 for which the stream to a:1 stays
// when the log of v1 gets the owner b:1, which answers.
func moving(t *testing.T, answers *peerpb.Wanted) (r *Reporter, v1, v2 *copied, a, b *owner) {
	t.Helper()
	a, b = &owner{says: make(chan *peerpb.Wanted)}, &owner{answers: answers}
	v1, v2 = &copied{name: "v1"}, &copied{name: "v2"}
	v1.set("a:1", Progress{History: "h", Received: 3, Applied: 3})
	v2.set("a:1", Progress{History: "h", Received: 3, Applied: 3})
	r = start(t, map[string]*owner{"a:1": a, "b:1": b}, v1, v2)
	a.says <- &peerpb.Wanted{VBucket: "v1", Listed: true, Sync: true}
	testkit.Eventually(t, "what the first owner wants is synced", v1.has(func(c *copied) bool { return c.progress.Synced == 3 }))
	v1.apply("b:1", 4)
	r.Moved(0)
	want := Wanted{Listed: answers.GetListed(), Sync: answers.GetSync()}
	testkit.Eventually(t, "the second owner is heard", v1.has(func(c *copied) bool { return c.wanted == want }))
	return r, v1, v2, a, b
}

// What a former owner says of a copy, later than the present one and over the stream that goes on for
// other copies, does not count.
func TestAFormerOwnerIsNotHeeded(t *testing.T) {
	r, v1, v2, a, b := moving(t, &peerpb.Wanted{VBucket: "v1", Listed: true, Sync: true})
	testkit.Eventually(t, "the second owner is told of a sync", b.has(func(o *owner) bool { return o.last.GetSynced() == 4 }))
	a.says <- &peerpb.Wanted{VBucket: "v1", Listed: true, Owner: "b:1"}
	a.says <- &peerpb.Wanted{VBucket: "v2", Listed: true}
	testkit.Eventually(t, "both were heard", v2.has(func(c *copied) bool { return c.wanted.Listed }))
	v1.apply("b:1", 5)
	r.Moved(0)
	testkit.Eventually(t, "the second owner is told of the next sync", b.has(func(o *owner) bool { return o.last.GetSynced() == 5 }))
	// Nor does it count that the first one was not the owner once the log is back there.
	v1.apply("a:1", 6)
	r.Moved(0)
	testkit.Eventually(t, "what is applied is synced", v1.has(func(c *copied) bool { return c.progress.Synced == 6 }))
	v1.apply("a:1", 7)
	r.Moved(0)
	testkit.Eventually(t, "what is applied after that is synced", v1.has(func(c *copied) bool { return c.progress.Synced == 7 }))
	if v1.has(func(c *copied) bool { return c.wanted.Owner != "" })() {
		t.Error("the copy was told of another owner by the present one")
	}
}

// An owner that has the log back, and wants what it wanted before, does not say so again.
func TestTheLastWordOfAnOwnerCountsAgain(t *testing.T) {
	r, v1, _, _, _ := moving(t, &peerpb.Wanted{VBucket: "v1", Listed: true})
	v1.apply("a:1", 5)
	r.Moved(0)
	testkit.Eventually(t, "what the first owner wants is synced", v1.has(func(c *copied) bool { return c.progress.Synced == 5 }))
}

// A slave that an owner refuses, since another one has the id of its disk, says so until the owner hears it.
func TestTheOwnerKeepsACopyOut(t *testing.T) {
	o := &owner{refuses: status.Error(codes.AlreadyExists, "the slave at x:1 confirms with the id of the same disk")}
	c := new(copied)
	c.set("o:1", Progress{History: "h", Received: 9})
	r := start(t, map[string]*owner{"o:1": o}, c)
	testkit.Eventually(t, "it says that it is refused", func() bool {
		err := r.Refused()
		return err != nil && strings.Contains(err.Error(), "x:1") && strings.Contains(err.Error(), "remove the file DISK")
	})
	o.mu.Lock()
	o.refuses = nil
	o.mu.Unlock()
	testkit.Eventually(t, "it is heard", func() bool { return r.Refused() == nil })
}
