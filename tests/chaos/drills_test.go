package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl"
	"github.com/dkvdb/dkv/internal/ctl/drill"
	"github.com/dkvdb/dkv/internal/testkit"
)

const agreed = "--allow-drills"

// newDrillCluster starts a registry, three masters and a slave, all but the last master agreed
// to drills.
func newDrillCluster(t *testing.T) *cluster {
	t.Helper()
	c := makeLocalCluster(t, 3)
	c.registry = append(c.registry, c.further("--role", "discovery"))
	c.slaves = append(c.slaves, c.further("--role", "slave", "--repl-mode", "stream"))
	for _, n := range c.all() {
		n.args = []string{agreed}
	}
	c.nodes[2].args = nil
	c.start(c.registry...)
	c.start(c.nodes...)
	c.start(c.slaves...)
	testkit.Eventually(t, "the registry lists the slave", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		resp, err := serverpb.NewDKVDiscoveryClient(c.registry[0].conn).GetClusterInfo(ctx, &serverpb.GetClusterInfoRequest{})
		return err == nil && slices.ContainsFunc(resp.GetRegionInfos(), func(r *serverpb.RegionInfo) bool { return r.GetNodeAddress() == c.slaves[0].addr })
	})
	return c
}

// dkvctl runs a command against the masters and the registry.
func (c *cluster) dkvctl(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var addrs []string
	for _, n := range slices.Concat(c.nodes, c.registry) {
		addrs = append(addrs, n.addr)
	}
	var out, errs bytes.Buffer
	args = append([]string{"-a", strings.Join(addrs, ","), "-timeout", "20s"}, args...)
	code = ctl.Main(ctx, args, func(string) (string, bool) { return "", false }, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// drill runs a drill as soon as the cluster is whole.
func (c *cluster) drill(name string) (code int, r drill.Report) {
	c.t.Helper()
	var out, errs string
	testkit.Eventually(c.t, "the cluster is whole", func() bool {
		code, out, errs = c.dkvctl(c.t.Context(), "-drill", name, "-for", "2s", "-o", "json", "-q")
		return out != "" || !slices.ContainsFunc([]string{"cannot be reached", "does not answer", "has a fault", "has not asked the other members", "leads the first", "follows no master", "no slave answers"},
			func(wait string) bool { return strings.Contains(errs, wait) })
	})
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		c.t.Fatalf("%s: %v; it printed %q and %q", name, err, out, errs)
	}
	return code, r
}

// begun returns the node that has begun a drill more often than before.
func (c *cluster) begun(before map[*node]int) *node {
	var found *node
	testkit.Eventually(c.t, "a node has the fault", func() bool {
		for n, times := range c.drills() {
			if times > before[n] {
				found = n
			}
		}
		return found != nil
	})
	return found
}

// drills counts the drills in the logs of all nodes.
func (c *cluster) drills() map[*node]int {
	out := make(map[*node]int)
	for _, n := range c.all() {
		if raw, err := os.ReadFile(n.logPath()); err == nil {
			out[n] = bytes.Count(raw, []byte("a drill has begun"))
		}
	}
	return out
}

// withoutFault waits until no node has a fault, and no key of a drill is left.
func (c *cluster) withoutFault() {
	c.t.Helper()
	for _, n := range c.all() {
		testkit.Eventually(c.t, "the fault is over", func() bool {
			ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
			defer cancel()
			s, err := serverpb.NewDKVNodeClient(n.conn).GetNodeStatus(ctx, &emptypb.Empty{})
			return err == nil && s.GetFault() == ""
		})
	}
	testkit.Eventually(c.t, "the keys of the drill are gone", func() bool {
		code, out, _ := c.dkvctl(c.t.Context(), "-keys", "dkv-drill/")
		return code == 0 && out == ""
	})
}

// TestDrills runs each drill. Nothing may be lost or stale; whether a promise of time holds is
// for the machine that the test runs on.
func TestDrills(t *testing.T) {
	t.Parallel()
	c := newDrillCluster(t)
	testkit.Eventually(t, "the master that has not agreed is named", func() bool {
		code, _, errs := c.dkvctl(t.Context(), "-drill", "follower-stop", "-for", "1s", "-q")
		return code == 1 && strings.Contains(errs, "has not agreed to drills: start it with allow-drills: true") && strings.Contains(errs, c.nodes[2].addr)
	})
	c.nodes[2].restartWith(agreed)
	for _, name := range drill.Names() {
		if name == drill.LostMajorityPlan {
			continue
		}
		code, r := c.drill(name)
		t.Logf("%s", strings.Join(r.Lines(), "\n"))
		if r.Lost != 0 || r.Stale != 0 {
			t.Errorf("%s: %v %v", name, r.LostKeys, r.StaleReads)
		}
		if r.Drill != name || r.Fault == "" || r.FaultSeconds <= 0 || r.Acknowledged == 0 || r.Reads == 0 || len(r.SlaveLag) != 1 || r.Promise == "" {
			t.Errorf("%+v", r)
		}
		if r.Held != (code == 0) {
			t.Errorf("%s: exit code %d: %s", name, code, r.Verdict)
		}
		c.withoutFault()
	}
}

// TestDrillIsInterrupted by Ctrl-C, and by the death of the node that it is about.
func TestDrillIsInterrupted(t *testing.T) {
	t.Parallel()
	c := newDrillCluster(t)
	c.nodes[2].restartWith(agreed)
	for _, name := range []string{"leader-stop", "follower-stop"} {
		before := c.drills()
		ctx, interrupt := context.WithCancel(t.Context())
		done := make(chan int, 1)
		go func() {
			code := 0
			for maps.Equal(before, c.drills()) && ctx.Err() == nil { // until the cluster is whole
				code, _, _ = c.dkvctl(ctx, "-drill", name, "-for", "1m", "-q")
			}
			done <- code
		}()
		target := c.begun(before)
		if name == "leader-stop" {
			interrupt()
		} else {
			target.kill()
		}
		if code := <-done; code == 0 {
			t.Errorf("%s: exit code 0", name)
		}
		interrupt()
		if name != "leader-stop" {
			c.start(target)
		}
		c.withoutFault()
	}
}
