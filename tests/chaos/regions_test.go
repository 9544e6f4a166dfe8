package chaos

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

var regionRounds = flag.Int("chaos.regions", 1, "rounds of the test of two regions, in each of which both are masters once")

// regions are three masters in the east and three slaves with disks in the west, whose places
// promotions exchange, and a node of the registry.
type regions struct {
	*cluster
	t          *testing.T
	east, west []*node
}

func newRegions(t *testing.T) *regions {
	t.Helper()
	c := makeLocalCluster(t, 6)
	r := &regions{cluster: c, t: t, east: c.nodes[:3], west: c.nodes[3:]}
	c.urls = c.urls[:3]
	c.registry = []*node{c.further("--role", "discovery")}
	// The east acknowledges nothing that the west lacks, however slow the machine is. The west
	// does not wait for the east, which is away when the west becomes the masters.
	for _, n := range r.east {
		n.flags = []string{"--dc-id", "east", "--auto-rejoin",
			"--repl-ack", "sync", "--repl-ack-from", "dc=west", "--repl-ack-fallback", "refuse", "--repl-ack-timeout", "50s"}
	}
	for _, n := range r.west {
		n.role = []string{"--role", "slave", "--nexus-cluster-name", "chaos", "--nexus-node-url", n.url, "--repl-mode", "stream"}
		n.flags = []string{"--dc-id", "west", "--auto-rejoin"}
	}
	c.start(c.registry...)
	c.start(r.east...)
	c.start(r.west...)
	r.verify(r.nodes...)
	return r
}

// TestRegionIsLost kills the masters' region whole: the slaves of the other region become
// three masters without a copy, and the former masters come back as their slaves. A planned
// move then makes these the masters again. No acknowledged write is lost.
func TestRegionIsLost(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	r := newRegions(t)
	l := startLoadAt(r.cluster, rng, r.east, true)
	l.turnTo(r.nodes)
	for range rounds(*regionRounds) {
		l.await(50 + rng.IntN(200))
		r.lose(l)
		l.await(50 + rng.IntN(200))
		r.move(l)
	}
	if found := l.era(); found == 0 || found%2 != 0 {
		t.Errorf("the last answers are of era %d", found)
	}
	l.judgePromoted()
}

// lose kills the east, has the west promoted, and starts the east again.
func (r *regions) lose(l *load) {
	r.t.Helper()
	copies := generations(r.west)
	// Former masters of whom no one knows that they were stopped may answer, once they are
	// back, until they hear of their successors: that is what -force says. Their clients are
	// lost with them here.
	l.turnTo(r.west)
	from := l.mark()
	for _, n := range r.east {
		n.kill()
	}
	began := time.Now()
	r.promote("-force", r.west)
	decided := time.Since(began)
	r.awaitMasters(r.west)
	served := time.Since(began)
	l.await(20)
	r.t.Logf("the east is lost: the command took %v, the three nodes in the west serve as masters %v after its start; no write for %v",
		decided.Round(time.Millisecond), served.Round(time.Millisecond), l.longestGap(from).Round(time.Millisecond))
	if now := generations(r.west); !slices.Equal(now, copies) {
		r.t.Errorf("the states of the west were copied: generations %v before and %v after", copies, now)
	}
	r.start(r.east...)
	l.quietly(func() { r.verify(r.nodes...) })
	l.turnTo(r.nodes)
}

// move makes the nodes in the east the masters, as planned.
func (r *regions) move(l *load) {
	r.t.Helper()
	copies := generations(r.east)
	from := l.mark()
	began := time.Now()
	r.promote("-planned", r.east)
	decided := time.Since(began)
	r.awaitMasters(r.east)
	served := time.Since(began)
	l.await(20)
	r.t.Logf("a planned move to the east: the command took %v, the three nodes serve as masters %v after its start; no write for %v",
		decided.Round(time.Millisecond), served.Round(time.Millisecond), l.longestGap(from).Round(time.Millisecond))
	if now := generations(r.east); !slices.Equal(now, copies) {
		r.t.Errorf("the states of the east were copied: generations %v before and %v after", copies, now)
	}
	l.quietly(func() { r.verify(r.nodes...) })
}

// promote makes slaves the masters, as an operator does.
func (r *regions) promote(how string, to []*node) {
	r.t.Helper()
	var err error
	if !testkit.SoonRun(func() bool {
		_, err = r.ctl("-a", to[0].addr, "-timeout", "1m", "-promote", "-with", addresses(to[1:]), how)
		return err == nil
	}) {
		r.t.Fatalf("not within %v: %v", testkit.Patience, err)
	}
}

// awaitMasters waits until each of some nodes is a master and has written.
func (r *regions) awaitMasters(nodes []*node) {
	r.t.Helper()
	var all sync.WaitGroup
	served := make([]bool, len(nodes))
	for i, n := range nodes {
		all.Go(func() {
			served[i] = testkit.Soon(func() bool {
				s := n.standing()
				return s.GetMode() == "raft" && s.GetState() == "serving" && n.writes()
			})
		})
	}
	all.Wait()
	for i, n := range nodes {
		if !served[i] {
			r.t.Fatalf("not within %v: node %d serves as a master", testkit.Patience, n.number)
		}
	}
}

// writes reports whether a write at the node is acknowledged.
func (n *node) writes() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := n.kv().Put(ctx, &serverpb.PutRequest{Key: []byte("written at a new master"), Value: []byte(clock())}, grpc.WaitForReady(true))
	return err == nil
}

// generations are the names of the folders in which nodes have their state.
func generations(nodes []*node) (out []string) {
	for _, n := range nodes {
		name := ""
		inner, _ := filepath.Glob(filepath.Join(n.folder(), "*", "CURRENT"))
		for _, file := range append(inner, filepath.Join(n.folder(), "CURRENT")) {
			if raw, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(raw), "gen-") {
				name += strings.TrimSpace(string(raw))
			}
		}
		if name == "" {
			n.c.t.Fatalf("node %d has no state in %s", n.number, n.folder())
		}
		out = append(out, name)
	}
	return out
}
