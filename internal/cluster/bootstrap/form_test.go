package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
)

// lead starts the founder, which keeps inviting; done returns how that ended.
func lead(t *testing.T, ctx context.Context, n *node) (id *Identity, done <-chan error) {
	t.Helper()
	id = must(t, n.start(ctx))
	return id, rest(ctx, id, nil)
}

func rest(ctx context.Context, id *Identity, standing func(uint64) Standing) <-chan error {
	done := make(chan error, 1)
	go func() { done <- id.InviteRest(ctx, standing) }()
	return done
}

func TestFormInAnyOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			urls := reserve(t, 3)
			peers := []string{urls[2], strings.ToUpper(urls[0]) + "/", hostPort(urls[1]), urls[2]}
			nodes := make([]*node, 3)
			ids := make([]*Identity, 3)
			results := make([]<-chan result, 3)
			var done <-chan error
			for _, n := range order {
				nodes[n] = newNode(t, urls[n], peers...)
				results[n] = nodes[n].start(t.Context())
				if n == 0 {
					ids[0] = must(t, results[0])
					mustBeFree(t, urls[0])
					done = rest(t.Context(), ids[0], nil)
				} else if done == nil {
					if h := waits(t, urls[n]); h.Joining || !slices.Equal(h.Peers, urls) || h.Fits(testTerms) != nil {
						t.Errorf("it waits as %+v", h)
					}
				}
			}
			for n := 1; n < 3; n++ {
				ids[n] = must(t, results[n])
				mustBeFree(t, urls[n])
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			checkCluster(t, urls, ids)
			for n, m := range nodes[0].stored(t).Members {
				if m.UUID != ids[n].UUID || m.State != accepted {
					t.Errorf("the founder knows %+v of %s", m, ids[n].UUID)
				}
			}
			for n, node := range nodes {
				again, err := node.enter(t.Context())
				if err != nil || again.Deployment != ids[n].Deployment || again.Replica != ids[n].Replica || again.UUID != ids[n].UUID {
					t.Errorf("restarted as %+v, %v", again, err)
				}
			}
		})
	}
}

// checkCluster fails unless ids are the cluster of urls.
func checkCluster(t *testing.T, urls []string, ids []*Identity) {
	t.Helper()
	want := make(map[uint64]string)
	addrs := make(map[uint64]string)
	for n, u := range urls {
		want[uint64(n)+1] = u
		addrs[uint64(n)+1] = strings.TrimPrefix(u, "http://")
	}
	seen := make(map[string]bool)
	for n, id := range ids {
		if id.Deployment == 0 || id.Deployment != ids[0].Deployment || id.Replica != uint64(n)+1 || id.URL != urls[n] || id.Address() != addrs[id.Replica] {
			t.Errorf("node %d is replica %d at %s of deployment %d", n, id.Replica, id.URL, id.Deployment)
		}
		if !maps.Equal(id.Members, want) || !maps.Equal(id.InitialMembers(), addrs) || id.Join || id.NonVoting || !id.Fresh || id.Founder != (n == 0) {
			t.Errorf("node %d: %+v", n, id.Members)
		}
		if seen[id.UUID] || id.ClusterName != "c1" || id.Database != "db" || id.VBuckets != 4 {
			t.Errorf("node %d: uuid %s, cluster %s, database %s, %d vBuckets", n, id.UUID, id.ClusterName, id.Database, id.VBuckets)
		}
		seen[id.UUID] = true
	}
}

func TestListOfOne(t *testing.T) {
	url := reserve(t, 1)[0]
	serve(t, url, likeRaft) // no network: what listens there does not matter
	var ids []*Identity
	for _, peers := range [][]string{nil, {url}, {url, url}} {
		n := newNode(t, url, peers...)
		n.StateThere = true
		id, err := n.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkCluster(t, []string{url}, []*Identity{id})
		if err := id.InviteRest(t.Context(), nil); err != nil {
			t.Error(err)
		}
		ids = append(ids, id)
	}
	if ids[0].Deployment == ids[1].Deployment || ids[1].Deployment == ids[2].Deployment {
		t.Error("two clusters have one deployment id")
	}
}

var errCrash = errors.New("power failure")

// TestFounderCrashes ends the founder at each of its writes, before and after
// the file is replaced, and starts it again.
func TestFounderCrashes(t *testing.T) {
	for write := int64(1); write <= 9; write++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, replaced %v", write, after), func(t *testing.T) { testFounderCrash(t, write, after) })
		}
	}
}

func testFounderCrash(t *testing.T, at int64, after bool) {
	urls := reserve(t, 3)
	var results []<-chan result
	for _, u := range urls[1:] {
		results = append(results, newNode(t, u, urls...).start(t.Context()))
		waits(t, u)
	}
	founder := newNode(t, urls[0], urls...)
	ctx, crash := cancelled(t)
	durable := founder.write
	var writes atomic.Int64
	founder.write = func(path string, content []byte) error {
		n := writes.Add(1)
		if n < at || n == at && after {
			if err := durable(path, content); err != nil {
				return err
			}
		}
		if n >= at {
			crash()
			return errCrash
		}
		return nil
	}
	id, err := founder.enter(ctx)
	if err == nil {
		if err = id.InviteRest(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Fatalf("the crash was not met: %v", err)
		}
	} else if !errors.Is(err, errCrash) && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if writes.Load() < at {
		t.Fatalf("there were only %d writes", writes.Load())
	}
	crash()
	founder.write = durable
	again, err := founder.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id != nil && id.Deployment != again.Deployment {
		t.Error("the founder founded twice")
	}
	// The answers that the crash swallowed show in Raft only.
	var active [4]atomic.Bool
	done := rest(t.Context(), again, func(replica uint64) Standing {
		if active[replica].Load() {
			return Active
		}
		return Unknown
	})
	ids := []*Identity{again}
	for n, r := range results {
		ids = append(ids, must(t, r))
		active[n+2].Store(true)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	checkCluster(t, urls, ids)
	for n, m := range founder.stored(t).Members {
		if m.UUID != ids[n].UUID || m.State != accepted {
			t.Errorf("the founder knows %+v of %s", m, ids[n].UUID)
		}
	}
}

func TestRemovedMemberIsNotInvited(t *testing.T) {
	urls := reserve(t, 2)
	founder := newNode(t, urls[0], urls...)
	id := must(t, founder.start(t.Context()))
	if err := id.InviteRest(t.Context(), func(uint64) Standing { return Removed }); err != nil {
		t.Fatal(err)
	}
	if m := founder.stored(t).Members[1]; m.State != removed || m.UUID != "" {
		t.Errorf("the founder knows %+v", m)
	}
	// Also when it turns up later.
	ctx, cancel := cancelled(t)
	late := newNode(t, urls[1], urls...).start(ctx)
	waits(t, urls[1])
	again := must(t, founder.start(t.Context()))
	if err := again.InviteRest(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := get(t, late); !errors.Is(err, context.Canceled) {
		t.Errorf("the removed member got %v", err)
	}
}

func TestOnlyTheFounderInvites(t *testing.T) {
	urls := reserve(t, 3)
	ctx, cancel := cancelled(t)
	_, done := lead(t, ctx, newNode(t, urls[0], urls...))
	id := must(t, newNode(t, urls[1], urls...).start(t.Context()))
	if err := id.InviteRest(t.Context(), nil); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("inviting ended with %v", err)
	}
}

// TestFoundersFileCannotBeWritten lets writes fail for a while: no node is
// invited whose uuid is not recorded.
func TestFoundersFileCannotBeWritten(t *testing.T) {
	urls := reserve(t, 2)
	founder := newNode(t, urls[0], urls...)
	durable := founder.write
	id := must(t, founder.start(t.Context()))
	var full atomic.Bool
	full.Store(true)
	var failed atomic.Int64
	id.file.write = func(path string, content []byte) error {
		if full.Load() {
			failed.Add(1)
			return errCrash
		}
		return durable(path, content)
	}
	member := newNode(t, urls[1], urls...)
	waiting := member.start(t.Context())
	done := rest(t.Context(), id, nil)
	testkit.Eventually(t, "it is tried again", func() bool { return failed.Load() > 3 })
	if rec := member.stored(t); rec.isMember() {
		t.Errorf("the member accepted %+v", rec)
	}
	if n := founder.text.Count("power failure"); n != 1 {
		t.Errorf("the failure is logged %d times", n)
	}
	full.Store(false)
	must(t, waiting)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestMembersFileCannotBeWritten lets the member fail: it has not accepted.
func TestMembersFileCannotBeWritten(t *testing.T) {
	urls := reserve(t, 2)
	member := newNode(t, urls[1], urls...)
	durable := member.write
	var full atomic.Bool
	member.write = func(path string, content []byte) error {
		if full.Load() {
			return errCrash
		}
		return durable(path, content)
	}
	waiting := member.start(t.Context())
	waits(t, urls[1])
	full.Store(true)
	founder := newNode(t, urls[0], urls...)
	_, done := lead(t, t.Context(), founder)
	testkit.Eventually(t, "the founder says why", func() bool { return founder.text.Has("its identity cannot be written") })
	if m := founder.stored(t).Members[1]; m.State != invited {
		t.Errorf("the founder knows %+v", m)
	}
	full.Store(false)
	must(t, waiting)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestSameReasonIsLoggedOnce has another program at a member's port, which
// ends connections in one way or the other.
func TestSameReasonIsLoggedOnce(t *testing.T) {
	urls := reserve(t, 2)
	founder := newNode(t, urls[0], urls...)
	id := must(t, founder.start(t.Context()))
	var conns atomic.Int64
	serve(t, urls[1], func(conn net.Conn) {
		if conns.Add(1)%2 == 0 {
			likeRaft(conn)
		}
	})
	ctx, cancel := cancelled(t)
	done := rest(ctx, id, nil)
	testkit.Eventually(t, "it keeps asking", func() bool { return conns.Load() > 5 })
	cancel()
	<-done
	if n := founder.text.Count("cannot be invited"); n != 1 {
		t.Errorf("the reason is logged %d times", n)
	}
}
