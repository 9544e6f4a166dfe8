package dkv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// dials connects a client to addresses; those that begin with "dead" do not answer.
type dials struct {
	mu   sync.Mutex
	dead int
}

var errDead = errors.New("connection refused")

func (d *dials) dial(ctx context.Context, addr string) (net.Conn, error) {
	if strings.HasPrefix(addr, "dead") {
		d.mu.Lock()
		d.dead++
		d.mu.Unlock()
		return nil, errDead
	}
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

func (d *dials) ofDead() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

const manySlaves = 5000

// measure returns how many dead nodes the client dials in a second.
func (d *dials) measure() float64 {
	const window = 2 * time.Second
	before := d.ofDead()
	<-time.After(window)
	return float64(d.ofDead()-before) / window.Seconds()
}

// wantLittle checks that a client that knows many dead nodes costs no more than one that
// knows none.
func (d *dials) wantLittle(t *testing.T) {
	t.Helper()
	rate, goroutines := d.measure(), runtime.NumGoroutine()
	t.Logf("%.1f dials of dead nodes a second, %d goroutines", rate, goroutines)
	if rate > 100 || goroutines > 400 {
		t.Errorf("%.1f dials of dead nodes a second, %d goroutines", rate, goroutines)
	}
}

// TestDeadSlavesOfAMaster has a master list 5 000 dead slaves and one that is alive: the
// client finds that one, and the others cost nothing.
func TestDeadSlavesOfAMaster(t *testing.T) {
	cl := newCluster(t, 1, 1)
	slave := startNode(t, cl, "")
	slave.slave = true
	cl.mu.Lock()
	cl.replicas = []*serverpb.Replica{replicaAt(t, slave.addr)}
	for i := range manySlaves {
		cl.replicas = append(cl.replicas, &serverpb.Replica{Hostname: fmt.Sprint("dead", i), Port: 80})
	}
	cl.mu.Unlock()
	var d dials
	c := ready(t, cl.addrs(), WithDialer(d.dial))
	testkit.Eventually(t, "the slave that lives is found", func() bool {
		return slices.Contains(names(c.topology.Load().vBuckets[0].replicas), slave.addr)
	})
	d.wantLittle(t)
}

// TestDeadNodesOfARegistry has a registry list 5 000 dead nodes: slaves, and nodes that
// registered as masters.
func TestDeadNodesOfARegistry(t *testing.T) {
	for _, status := range []serverpb.RegionStatus{serverpb.RegionStatus_ACTIVE_SLAVE, serverpb.RegionStatus_SECONDARY_FOLLOWER} {
		t.Run(status.String(), func(t *testing.T) {
			cl := newCluster(t, 3, 1)
			r := startRegistry(t, "127.0.0.1:0")
			r.set(cl.nodes...)
			r.mu.Lock()
			r.rows[0].Status = serverpb.RegionStatus_LEADER
			for i := range manySlaves {
				r.rows = append(r.rows, &serverpb.RegionInfo{Database: "db", VBucket: "default", NodeAddress: fmt.Sprintf("dead%d:80", i), Status: status})
			}
			r.mu.Unlock()
			var d dials
			c := ready(t, "discovery://"+r.addr+"/db", WithDialer(d.dial))
			must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
			d.wantLittle(t)
			// Leaders are still found.
			cl.lead(cl.nodes[2])
			must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
		})
	}
}

// TestRowsThatAreNone has a registry list invalid nodes.
func TestRowsThatAreNone(t *testing.T) {
	cl := newCluster(t, 1, 1)
	r := startRegistry(t, "127.0.0.1:0")
	r.set(cl.nodes...)
	r.mu.Lock()
	good := r.rows[0]
	for i, addr := range []string{"", "nowhere", ":80", "0.0.0.0:80", "host:0", "host:99999", "a b:80", "[::1", "x\x00y:80", strings.Repeat("x", 1<<16) + ":80", "%zz:80", "http://host:80", "host:80/x"} {
		r.rows = append([]*serverpb.RegionInfo{{Database: "db", VBucket: fmt.Sprint(i), NodeAddress: addr, Status: serverpb.RegionStatus_LEADER, VBuckets: uint32(i * 7)}}, r.rows...)
	}
	for _, n := range []uint32{7, 0xffffffff, 1 << 31} {
		r.rows = append(r.rows, &serverpb.RegionInfo{Database: "db", VBucket: "6", NodeAddress: "dead:1", Status: serverpb.RegionStatus_LEADER, VBuckets: n, Term: 1 << 63})
	}
	r.mu.Unlock()
	var d dials
	c := ready(t, "discovery://"+r.addr+"/db", WithDialer(d.dial))
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), []byte("v")))
	if got := cl.pairs()["k"]; got != "v" {
		t.Errorf("%q", got)
	}
	if good.GetNodeAddress() == "" {
		t.Error("the row of the node is lost")
	}
}

// TestIdleWithoutLeader leaves a client idle while its cluster has no leader: it probes
// its nodes less and less often, and still finds the next leader.
func TestIdleWithoutLeader(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	asked := func() (n int) {
		for _, node := range cl.nodes {
			n += node.count(serverpb.DKVNode_GetNodeStatus_FullMethodName)
		}
		return n
	}
	idle := func() {
		cl.lead(nil)
		c.learner.probeSoon()
		testkit.Eventually(t, "the leader is missed", func() bool { return !c.learner.leadersKnown() })
		<-time.After(3 * time.Second)
	}
	idle()
	before := asked()
	const window = 4 * time.Second
	<-time.After(window)
	rate := float64(asked()-before) / window.Seconds() / 3
	t.Logf("%.1f questions a second to each node", rate)
	if rate > 1.5 {
		t.Errorf("an idle client asks each node %.1f times a second", rate)
	}
	testkit.Timely(t, func() error {
		cl.lead(cl.nodes[1])
		began := time.Now()
		must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
		if d := time.Since(began); d > 2*time.Second {
			idle()
			return fmt.Errorf("the next leader was found after %v", d)
		}
		return nil
	})
}

// replicaAt is a slave at an address that has just asked for changes.
func replicaAt(t *testing.T, addr string) *serverpb.Replica {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return &serverpb.Replica{Hostname: a.IP.String(), Port: uint32(a.Port), SinceMillis: 10}
}
