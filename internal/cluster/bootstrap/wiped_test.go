package bootstrap

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// formed is a cluster of two, formed.
func formed(t *testing.T) (founder, member *node, ids [2]*Identity) {
	t.Helper()
	urls := reserve(t, 2)
	founder, member = newNode(t, urls[0], urls...), newNode(t, urls[1], urls...)
	id, done := lead(t, t.Context(), founder)
	ids = [2]*Identity{id, must(t, member.start(t.Context()))}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return founder, member, ids
}

func TestWipedMemberIsRefusedByAnyMember(t *testing.T) {
	founder, member, _ := formed(t)
	member.wipe(t)
	back := member.start(t.Context())
	waits(t, member.URL)
	// The founder has its acceptance and does not invite again.
	again := must(t, founder.start(t.Context()))
	if err := again.InviteRest(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := cancelled(t)
	down := func() []Known { return []Known{{Replica: 1, URL: founder.URL}, {Replica: 2, URL: member.URL}} }
	err := testClient(t).RefuseEmpty(ctx, time.Millisecond, down, func(k Known) {
		if k.Replica != 2 {
			t.Errorf("refused %+v", k)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("RefuseEmpty ended with %v", err)
	}
	_, err = get(t, back)
	if !errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), "replica 2 at "+member.URL+" with another disk") ||
		!strings.Contains(err.Error(), "dkvctl -removeNode "+member.URL) || !strings.Contains(err.Error(), "--nexus-join") {
		t.Errorf("the wiped node got %v", err)
	}
	mustBeFree(t, member.URL)
}

// TestDiskLostBeforeAccepting loses the disk of a node that has been invited,
// while no one knows whether it accepted: it is not invited again.
func TestDiskLostBeforeAccepting(t *testing.T) {
	urls := reserve(t, 2)
	founder, member := newNode(t, urls[0], urls...), newNode(t, urls[1], urls...)
	ctx, crash := cancelled(t)
	member.write = func(path string, content []byte) error {
		if strings.Contains(string(content), "deployment") {
			crash()
			return errCrash
		}
		return durable.WriteFile(path, content)
	}
	lost := member.start(ctx)
	leading, stop := cancelled(t)
	_, done := lead(t, leading, founder)
	if _, err := get(t, lost); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	stop()
	<-done
	bound := founder.stored(t).Members[1]
	if bound.State != invited {
		t.Fatalf("the founder knows %+v", bound)
	}
	member.write = durable.WriteFile

	t.Run("wiped", func(t *testing.T) {
		wiped := newNode(t, urls[1], urls...)
		back := wiped.start(t.Context())
		ctx, stop := cancelled(t)
		done := rest(ctx, must(t, founder.start(ctx)), nil)
		if _, err := get(t, back); !errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), "another disk") {
			t.Errorf("another disk got %v", err)
		}
		stop()
		<-done
		if m := founder.stored(t).Members[1]; m != bound {
			t.Errorf("the founder knows %+v", m)
		}
	})
	t.Run("same disk", func(t *testing.T) {
		back := member.start(t.Context())
		done := rest(t.Context(), must(t, founder.start(t.Context())), nil)
		if id := must(t, back); id.UUID != bound.UUID {
			t.Errorf("%s accepted, %s was invited", id.UUID, bound.UUID)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestCopiedDisk(t *testing.T) {
	urls := reserve(t, 3)
	ctx := t.Context()
	second := newNode(t, urls[1], urls...)
	first := second.start(ctx)
	waits(t, urls[1])
	clone := newNode(t, urls[2], urls...)
	rec := second.stored(t)
	if err := (file{clone.Dir, durable.WriteFile}).store(rec); err != nil {
		t.Fatal(err)
	}
	founder := newNode(t, urls[0], urls...)
	_, done := lead(t, ctx, founder)
	must(t, first)
	if _, err := get(t, clone.start(ctx)); !errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), "disk of replica 2") {
		t.Errorf("the copy got %v", err)
	}
	// With a disk of its own it is let in.
	clone.wipe(t)
	must(t, clone.start(ctx))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestWipedFounderDoesNotFoundAgain(t *testing.T) {
	urls := reserve(t, 3)
	serve(t, urls[2], likeRaft)
	founder := newNode(t, urls[0], urls...)
	_, err := founder.enter(t.Context())
	if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), urls[2]+" of nexus-cluster-url runs already") {
		t.Errorf("the founder got %v", err)
	}
	if rec := founder.stored(t); rec.isMember() {
		t.Errorf("it founded %+v", rec)
	}
	mustBeFree(t, urls[0])
}

// TestWipedFounderIsRefused lets a running member speak first.
func TestWipedFounderIsRefused(t *testing.T) {
	urls := reserve(t, 2)
	serve(t, urls[1], likeRaft)
	founder := newNode(t, urls[0], urls...)
	founder.pace.patience = time.Hour
	back := founder.start(t.Context())
	h := waits(t, urls[0])
	h.UUID = newUUID()
	if err := testClient(t).reject(t.Context(), h, "meant for another disk"); !errors.Is(err, ErrDeclined) {
		t.Errorf("a rejection of another disk: %v", err)
	}
	if err := testClient(t).Refuse(t.Context(), urls[0], LostDisk(1, urls[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, back); !errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), "replica 1") {
		t.Errorf("the founder got %v", err)
	}
}

// TestForwardedPort is a port that hangs up until the node behind it is up.
func TestForwardedPort(t *testing.T) {
	urls := reserve(t, 2)
	hangUp := serve(t, urls[1], likeRaft)
	founder := newNode(t, urls[0], urls...)
	founder.pace.patience = time.Hour
	founding := founder.start(t.Context())
	testkit.Eventually(t, "the founder says what it waits for", func() bool { return founder.text.Has("not founding a cluster yet") })
	hangUp()
	id := must(t, founding)
	done := rest(t.Context(), id, nil)
	must(t, newNode(t, urls[1], urls...).start(t.Context()))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestIncompatible(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong func(o *Options, less string)
		want  string
	}{
		{"cluster name", func(o *Options, _ string) { o.Terms.ClusterName = "c2" }, `nexus-cluster-name "c2", the cluster has "c1"`},
		{"database", func(o *Options, _ string) { o.Terms.Database = "db2" }, `database "db2"`},
		{"vbuckets", func(o *Options, _ string) { o.Terms.VBuckets = 8 }, `vbuckets "8", the cluster has "4"`},
		{"vbucket", func(o *Options, _ string) { o.Terms.VBucket = "other" }, `vbucket "other", the cluster has "main"`},
		{"version", func(o *Options, _ string) { o.Terms.Version = "v2.0.0" }, "version v2.0.0, the cluster v1.2.3"},
		{"another timing", func(o *Options, _ string) { o.Terms.Timing.Current = timing.WAN }, "has another timing than the cluster: raft-rtt is 100ms, not 50ms"},
		{"older format", func(o *Options, _ string) { o.Terms.Format = 0 }, "understands format 1 of the log, and the cluster's has format 2: upgrade it"},
		{"longer list", func(o *Options, _ string) { o.Peers = append(o.Peers, "http://zzz:1") }, "start all nodes with one list"},
		{"other list", func(o *Options, less string) { o.Peers[0] = less }, "start all nodes with one list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// A list with less in it has another founder.
			urls := reserve(t, 3)
			less, urls := urls[0], urls[1:]
			wrong := newNode(t, urls[1], urls...)
			c.wrong(&wrong.Options, less)
			waiting := wrong.start(t.Context())
			waits(t, urls[1])
			founder := newNode(t, urls[0], urls...)
			_, done := lead(t, t.Context(), founder)
			if _, err := get(t, waiting); !errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it got %v", err)
			}
			testkit.Eventually(t, "the founder logs it", func() bool { return founder.text.Has("cannot be invited") })
			// Started again as it should be, it is let in.
			right := newNode(t, urls[1], urls...)
			right.Dir = wrong.Dir
			must(t, right.start(t.Context()))
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFirstMemberStartedToJoin(t *testing.T) {
	urls := reserve(t, 2)
	ctx, cancel := cancelled(t)
	wrong := newNode(t, urls[1], urls...)
	wrong.Join = true
	waiting := wrong.start(ctx)
	waits(t, urls[1])
	founder := newNode(t, urls[0], urls...)
	_, done := lead(t, t.Context(), founder)
	testkit.Eventually(t, "the founder says what to do", func() bool { return founder.text.Has("waits with --nexus-join") })
	cancel()
	if _, err := get(t, waiting); !errors.Is(err, context.Canceled) {
		t.Errorf("it got %v", err)
	}
	wrong.Join = false
	must(t, wrong.start(t.Context()))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestAliases gives one node two names.
func TestAliases(t *testing.T) {
	urls := reserve(t, 1)
	alias := FormatURL(testkit.Forward(t, hostPort(urls[0])))
	ctx, cancel := cancelled(t)
	n := newNode(t, urls[0], urls...)
	n.Join, n.Dir = true, filepath.Join(n.Dir, "deep", "er")
	waiting := n.start(ctx)
	waits(t, urls[0])
	h, err := testClient(t).Probe(t.Context(), alias)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Fits(testTerms); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "has the url "+urls[0]) {
		t.Errorf("it fits: %v", err)
	}
	cancel()
	<-waiting
}
