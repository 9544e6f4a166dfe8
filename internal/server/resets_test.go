package server

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/testkit"
)

// clocked are the resets of a connection whose client a test plays.
type clocked struct {
	resets
	now    time.Time
	last   uint32
	member bool
}

func newClocked() *clocked { return &clocked{resets: newResets(), now: time.Unix(1, 0)} }

// round begins as many calls as a connection may have open, and cancels all of them
// after a time. It reports whether the connection is kept.
func (c *clocked) round(open time.Duration) bool {
	var all []uint32
	for range streamsPerConnection {
		c.last += 2
		all = append(all, c.last)
		c.began(c.last, c.now)
	}
	c.now = c.now.Add(open)
	for _, s := range all {
		if !c.allow(s, c.now, func() bool { return c.member }) {
			return false
		}
	}
	return true
}

// A node whose forwarded calls all time out keeps its connection, for as long as that
// goes on.
func TestTimedOutCallsAreNoFlood(t *testing.T) {
	c := newClocked()
	for i := range 600 {
		if !c.round(youth) {
			t.Fatalf("the connection is closed in round %d", i)
		}
	}
}

// Calls that are cancelled soon count, and those of members less.
func TestYoungCallsAreBounded(t *testing.T) {
	rounds := func(c *clocked) (n int) {
		for n < 600 && c.round(youth/4) {
			n++
		}
		return n
	}
	client, member := newClocked(), newClocked()
	member.member = true
	if n := rounds(client); n > 4 {
		t.Errorf("a client keeps its connection for %d rounds", n)
	}
	if n := rounds(member); n != 600 {
		t.Errorf("a member loses its connection after %d rounds", n)
	}
	for n := 0; member.round(0); n++ {
		if n > 100 {
			t.Fatal("a member is not bounded")
		}
	}
}

func TestYouth(t *testing.T) {
	c := newClocked()
	begin := func() uint32 { c.last += 2; c.began(c.last, c.now); return c.last }
	old := begin()
	c.now = c.now.Add(youth / 2)
	young := begin()
	for range 100 { // of the same span
		begin()
	}
	c.now = c.now.Add(youth / 2)
	if c.young(old, c.now) || !c.young(young, c.now) || !c.young(c.last, c.now) {
		t.Error("what is young is not told by its age")
	}
	for range 2 * spans {
		begin()
		c.now = c.now.Add(span)
	}
	if c.young(young, c.now) {
		t.Error("a call stays young")
	}
}

// Calls with numbers that may not be used cost the connection, also if its client takes no answers: gRPC would keep
// one for each of them.
func TestMisnumberedCallsCostTheConnection(t *testing.T) {
	r := newRig(t)
	r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		return &serverpb.GetResponse{Value: make([]byte, 16<<20)}, nil
	}
	for name, stream := range map[string]uint32{"used": 1, "even": 1 << 20} {
		a := r.attack(1<<30, false)
		a.Call(serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{})
		testkit.Eventually(t, "the answer waits", func() bool {
			return slices.ContainsFunc(r.calls.conns(), func(c *conn) bool { return c.blocked(time.Now()) > 20*time.Millisecond })
		})
		begin := func(w *http2.Framer) error {
			return w.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x83}, EndHeaders: true, EndStream: true})
		}
		for n := 0; a.Write(begin); n++ {
			if n == 1<<18 {
				t.Fatalf("%s: %d calls are taken", name, n)
			}
		}
		a.Close()
	}
	if n := r.hits(limitNumbers); n != 2 {
		t.Errorf("the limit was met %v times", n)
	}
}

// A connection is one of a member by its address.
func TestMembersAreKnownByTheirAddresses(t *testing.T) {
	for _, member := range []bool{true, false} {
		r := newRig(t, from("192.0.2.1"), func(o *Options) {
			o.Access = access.NewGuard(access.Options{Exposure: access.Exposed, Member: func(a netip.Addr) bool {
				if a != netip.MustParseAddr("192.0.2.1") {
					t.Errorf("asked about %v", a)
				}
				return member
			}})
		})
		r.others()
		for _, c := range r.calls.conns() {
			if c.ofMember() != member {
				t.Errorf("a member: %v, and taken for one: %v", member, c.ofMember())
			}
		}
	}
}
