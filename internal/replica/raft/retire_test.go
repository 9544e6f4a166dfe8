package raft

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// counted makes the nodes count their starts, as the identity file does.
func counted(c *cluster) {
	c.options = func(n *node, o *Options) {
		path := filepath.Join(n.path, "starts")
		raw, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(path, append(raw, '.'), 0o600); err != nil {
			c.t.Fatal(err)
		}
		o.Self.Starts = uint64(len(raw) + 1)
		o.Recorded = func(m replica.Member) error {
			if m.Starts >= o.Self.Starts {
				return errOlder
			}
			return nil
		}
	}
}

var errOlder = errors.New("an older copy")

// A node whose disk was put back from an older copy meets its own later start in the
// log: it stops for good, and does not overwrite what stands there.
func TestRaftRetiresWhereTheLogKnowsALaterStart(t *testing.T) {
	c := newCluster(t, 3, counted)
	n := c.follower()
	n.kill()
	older := filepath.Join(c.dir, "older")
	if err := os.CopyFS(older, os.DirFS(n.path)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n.start()
		starts := n.raft.Self.Starts
		// On every member: those that are left after the disk was replaced must have it.
		for _, m := range c.nodes {
			testkit.Eventually(t, "the start stands in the log", func() bool { return m.Members()[n.id].Starts == starts })
		}
		n.kill()
	}
	if err := errors.Join(os.RemoveAll(n.path), os.CopyFS(n.path, os.DirFS(older))); err != nil {
		t.Fatal(err)
	}
	// A leader that has run on knows how far the newest log was, and Dragonboat ends
	// the process of a follower whose log is shorter. A new one knows nothing.
	for _, other := range c.nodes {
		other.kill()
	}
	for _, other := range c.nodes {
		other.start()
	}
	testkit.Eventually(t, "the replica has stopped", func() bool { return n.State() == replica.Failed })
	s := n.Status()
	if !errors.Is(s.Err, errOlder) || !strings.Contains(s.ReadOnly, errOlder.Error()) || strings.Contains(s.ReadOnly, "storage") {
		t.Errorf("it says %q, %v", s.ReadOnly, s.Err)
	}
	if _, err := n.Propose(t.Context(), replicatest.Put("k", "v")); !errors.Is(err, errOlder) || kv.OutcomeOf(err) != kv.NotApplied {
		t.Errorf("a mutation there: %v", err)
	}
	if starts := c.owner().Members()[n.id].Starts; starts != 3 {
		t.Errorf("start %d stands in the log", starts)
	}
	c.put("k", "v") // the others go on
}

// A replica that has stopped for good does not come back when its disk has room again.
func TestRaftThatIsRetiredStaysStopped(t *testing.T) {
	c := newCluster(t, 3)
	n := c.follower()
	n.fail(storage.ErrNoSpace)
	n.Retire(errOlder)
	testkit.Eventually(t, "nothing waits for room", func() bool {
		return n.State() == replica.Failed && errors.Is(n.Status().Err, errOlder) && n.rejoin() == nil
	})
	if n.State() != replica.Failed {
		t.Errorf("the replica is %s", n.State())
	}
	if _, err := n.append(t.Context(), &command.Command{Kind: command.SetPaused}, n.raft.Timeout); err == nil {
		t.Error("it still takes part in the log")
	}
}

// A replica that is retired while it starts takes no part either: Retire found nothing to wait for.
func TestRaftThatIsRetiredDoesNotStart(t *testing.T) {
	var took atomic.Int32
	c := newCluster(t, 1, func(c *cluster) {
		c.options = func(_ *node, o *Options) { o.TakePart = func() { took.Add(1) } }
	})
	c.put("k", "v")
	n := c.owner()
	n.kill()
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
	took.Store(0)
	n.Retire(errOlder) // behind the look of join
	if err := n.begin(t.Context()); err != nil {
		t.Errorf("a replica that is retired: %v", err)
	}
	if took.Load() != 0 {
		t.Error("it takes part in the log")
	}
	if err := n.awaitUnloaded(testkit.Within(t, patience)); err != nil {
		t.Error(err)
	}
}
