package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

func TestJoin(t *testing.T) {
	for _, nonVoting := range []bool{false, true} {
		t.Run(fmt.Sprint("non-voting ", nonVoting), func(t *testing.T) {
			urls := reserve(t, 4)
			n := newNode(t, urls[3], urls[:3]...)
			n.Join = true
			waiting := n.start(t.Context())
			h := waits(t, urls[3])
			if !h.Joining || h.Fits(testTerms) != nil {
				t.Fatalf("it waits as %+v", h)
			}
			testkit.Eventually(t, "it says how to add it", func() bool { return n.text.Count("dkvctl -addNode "+urls[3]) > 1 })
			inv := Invitation{UUID: h.UUID, Terms: testTerms, Deployment: 77, Replica: 9, Join: true, NonVoting: nonVoting}
			if err := testClient(t).Invite(t.Context(), urls[3], inv); err != nil {
				t.Fatal(err)
			}
			id := must(t, waiting)
			mustBeFree(t, urls[3])
			want := Identity{UUID: h.UUID, Deployment: 77, Replica: 9, URL: urls[3], Join: true, NonVoting: nonVoting, Fresh: true}
			for range 2 {
				if id.UUID != want.UUID || id.Deployment != 77 || id.Replica != 9 || id.URL != want.URL || !id.Join ||
					id.NonVoting != nonVoting || id.Fresh != want.Fresh || id.Founder || len(id.Members) != 0 {
					t.Errorf("it is %+v", id)
				}
				if err := id.MarkStarted(); err != nil {
					t.Fatal(err)
				}
				n.RaftData = func() (bool, error) { return true, nil }
				id, want.Fresh = must(t, n.start(t.Context())), false
			}
			if !n.text.Has("nexus-join has no effect") {
				t.Error("it does not say that nexus-join has no effect")
			}
		})
	}
}

// TestInvitationsDeclined holds each wrong invitation against a waiting node,
// which keeps waiting.
func TestInvitationsDeclined(t *testing.T) {
	urls := reserve(t, 3)
	members := map[uint64]string{1: urls[0], 2: urls[1], 3: urls[2]}
	for _, join := range []bool{false, true} {
		n := newNode(t, urls[1], urls...)
		n.Join = join
		ctx, cancel := cancelled(t)
		waiting := n.start(ctx)
		h := waits(t, urls[1])
		right := Invitation{UUID: h.UUID, Terms: testTerms, Deployment: 7, Replica: 2, Members: members}
		if join {
			right.Join, right.Members = true, nil
		}
		for _, c := range []struct {
			name string
			bend func(*Invitation)
			want string
		}{
			{"uuid", func(i *Invitation) { i.UUID = newUUID() }, "its disk is"},
			{"no deployment", func(i *Invitation) { i.Deployment = 0 }, "no deployment"},
			{"no replica", func(i *Invitation) { i.Replica = 0 }, "no deployment"},
			{"join", func(i *Invitation) { i.Join = !i.Join }, "--nexus-join"},
			{"members", func(i *Invitation) { i.Members = map[uint64]string{2: urls[1]} }, ""},
			{"another's number", func(i *Invitation) { i.Replica, i.Members = 3, members }, ""},
			{"cluster", func(i *Invitation) { i.Terms.ClusterName = "x" }, "nexus-cluster-name"},
			{"database", func(i *Invitation) { i.Terms.Database = "x" }, "database"},
			{"vbuckets", func(i *Invitation) { i.Terms.VBuckets = 5 }, "vbuckets"},
			{"vbucket", func(i *Invitation) { i.Terms.VBucket = "x" }, `vbucket "main"`},
			{"version", func(i *Invitation) { i.Terms.Version = "v3.1.0" }, "major version"},
			{"timing", func(i *Invitation) { i.Terms.Timing.Current = timing.WAN }, "raft-rtt is 50ms, not 100ms"},
			{"format", func(i *Invitation) { i.Terms.Format = 3 }, "understands format 2 of the log, and the cluster's has format 3"},
		} {
			inv := right
			c.bend(&inv)
			if err := testClient(t).Invite(t.Context(), urls[1], inv); !errors.Is(err, ErrDeclined) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("join %v, %s: %v", join, c.name, err)
			}
		}
		if rec := n.stored(t); rec.isMember() {
			t.Errorf("it wrote down %+v", rec)
		}
		if err := testClient(t).Invite(t.Context(), urls[1], right); err != nil {
			t.Error(err)
		}
		if id := must(t, waiting); id.LogFormat != testTerms.Format {
			t.Errorf("the log's format is %d", id.LogFormat)
		}
		cancel()
	}
}

// TestInvitationRepeated sends invitations to one node that has accepted but
// not left yet.
func TestInvitationRepeated(t *testing.T) {
	n := newNode(t, "http://127.0.0.1:9021")
	i := &invitee{
		self: record{UUID: newUUID(), URL: n.URL}, terms: testTerms, state: joining,
		file: file{n.Dir, n.write}, wall: time.Now, decided: make(chan struct{}),
	}
	inv := invitationTo(i, 5)
	for range 2 {
		if _, err := i.Invite(t.Context(), inv); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := i.Invite(t.Context(), invitationTo(i, 6)); err == nil || !strings.Contains(err.Error(), "accepted already to be replica 5") {
		t.Errorf("another number is answered with %v", err)
	}
	if rec, err := i.end(); err != nil || rec.Replica != 5 || n.stored(t).Replica != 5 {
		t.Errorf("it is %+v, %v", rec, err)
	}
	late := &invitee{self: i.self, terms: testTerms, state: joining, file: i.file, wall: time.Now, decided: make(chan struct{})}
	if rec, err := late.end(); rec != nil || err != nil {
		t.Error("it was decided without an invitation")
	}
	if _, err := late.Invite(t.Context(), inv); err == nil {
		t.Error("it accepted after its end")
	}
}

func TestWhoWaitsToJoinIsNotRefused(t *testing.T) {
	url := reserve(t, 1)[0]
	n := newNode(t, url)
	n.Join = true
	ctx, cancel := cancelled(t)
	waiting := n.start(ctx)
	waits(t, url)
	if err := testClient(t).Refuse(t.Context(), url, "go away"); !errors.Is(err, ErrDeclined) {
		t.Errorf("refused: %v", err)
	}
	waits(t, url)
	cancel()
	if _, err := get(t, waiting); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// TestStrangersAtThePort lets programs that speak something else, or nothing,
// connect: the node keeps waiting, and they do not keep the port.
func TestStrangersAtThePort(t *testing.T) {
	url := reserve(t, 1)[0]
	n := newNode(t, url)
	n.Join = true
	waiting := n.start(t.Context())
	h := waits(t, url)
	for _, say := range []string{"", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\xae\x7d" + strings.Repeat("\x00", 64), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", strings.Repeat("x", 1<<16)} {
		conn, err := net.Dial("tcp", hostPort(url))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(say)); err != nil && len(say) < 1000 {
			t.Error(err)
		}
	}
	waits(t, url)
	if err := testClient(t).Invite(t.Context(), url, Invitation{UUID: h.UUID, Terms: testTerms, Deployment: 1, Replica: 4, Join: true}); err != nil {
		t.Fatal(err)
	}
	must(t, waiting)
	mustBeFree(t, url)
}
