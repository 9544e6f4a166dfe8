package alerts

import (
	"context"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/tests/deploy/scraped"
)

// load puts at nodes until it is stopped, a few times at once and without waiting long for an
// answer.
func load(t *testing.T, nodes []*scraped.Node) (stop context.CancelFunc) {
	begun, stop := context.WithCancel(t.Context())
	for _, n := range nodes {
		client := serverpb.NewDKVClient(scraped.Dial(t, n.GRPC))
		for range 4 {
			scraped.Forever(t, func(context.Context, int) {
				ctx, cancel := context.WithTimeout(begun, 2*time.Second)
				defer cancel()
				_, _ = client.Put(ctx, &serverpb.PutRequest{Key: []byte("key"), Value: make([]byte, 100)})
			})
		}
	}
	return stop
}

func causesOfClusters(t *testing.T, fired map[string]bool) {
	c := scraped.StartCluster(t, "--allow-drills")
	masters := c["master"]
	stop := load(t, masters)
	w := &watch{scraped.Start(t, fasterRules(t), c), fired}

	w.cause(t, "two of three masters are killed", []string{
		"DKVNodeDown", "DKVAvailabilityLow", "DKVNoLeader", "DKVUnderReplicated", "DKVErrors", "DKVReplicationLag",
	}, func() {
		masters[0].Kill()
		masters[1].Kill()
	}, func() {
		masters[0].Start(t)
		masters[1].Start(t)
		masters[0].Await(t)
		masters[1].Await(t)
	})
	w.cause(t, "the registry is killed", []string{"DKVNodeDown"}, c["discovery"][0].Kill, func() {
		c["discovery"][0].Start(t)
		c["discovery"][0].Await(t)
	})
	w.cause(t, "the clock of a master is 5 seconds ahead", []string{"DKVClockOff"}, func() {
		masters[2].End(syscall.SIGTERM)
		masters[2].Start(t, aheadVariable+"=5s")
	}, func() {
		masters[2].End(syscall.SIGTERM)
		masters[2].Start(t)
		masters[2].Await(t)
	})
	// How long requests take without the fault is up to the machine, which may be busy: there are
	// none before and afterwards.
	stop()
	var drill *exec.Cmd
	w.cause(t, "each sync of a disk takes 300 ms longer", []string{"DKVSyncSlow", "DKVLatencyHigh"}, func() {
		stop = load(t, masters)
		drill = exec.CommandContext(t.Context(), "dkvctl", "-a", masters[0].GRPC, "-drill", "slow-disk", "-yes", "-for", "40s", "-delay", "300ms")
		if err := drill.Start(); err != nil {
			t.Fatal(err)
		}
	}, func() {
		_ = drill.Wait()
		stop()
	})
	w.cause(t, "the leader changes four times", []string{"DKVLeaderChanges"}, func() {
		for range 4 {
			out, err := exec.CommandContext(t.Context(), "dkvctl", "-a", masters[0].GRPC, "-transferLeader").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}, func() {})
}

// alone starts nodes without a role, and a Prometheus that scrapes them.
func alone(t *testing.T, fired map[string]bool, nodes ...*scraped.Node) *watch {
	t.Helper()
	for _, n := range nodes {
		n.Start(t)
	}
	for _, n := range nodes {
		n.Await(t)
	}
	return &watch{scraped.Start(t, fasterRules(t), scraped.Cluster{"none": nodes}), fired}
}

// hold opens connections until one fails, and closes them in the end.
func hold(t *testing.T, address string, most int) (release func()) {
	var open []net.Conn
	for range most {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			t.Log(err)
			break
		}
		open = append(open, c)
	}
	return func() {
		for _, c := range open {
			_ = c.Close()
		}
	}
}
