package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// shown is a node's condition as everything shows it that presents one.
type shown struct {
	// health and state are those of GET /health.
	health, state string
	// quick, grpc and storage are whether /health/quick and the two probes of /readyz pass,
	// serving whether gRPC's health check does.
	quick, grpc, storage, serving bool
	// row is the node's part as the registry is told.
	row serverpb.RegionStatus
	// said is the state in the answer of DKVNode, member that in /admin/cluster/status.
	said, member string
	// rejects is the metric of writes that are rejected, which no slave accepts at any time.
	rejects bool
	// leader reports whether the node itself is shown as the leader, everywhere.
	leader bool
}

// The conditions that most tests look for.
var (
	leads   = shown{health: "healthy", state: "serving", quick: true, grpc: true, storage: true, serving: true, row: serverpb.RegionStatus_LEADER, said: "serving", member: "LEADER", leader: true}
	follows = shown{health: "healthy", state: "serving", quick: true, grpc: true, storage: true, serving: true, row: serverpb.RegionStatus_SECONDARY_FOLLOWER, said: "serving", member: "FOLLOWER"}
	copies  = shown{health: "healthy", state: "serving", quick: true, grpc: true, storage: true, serving: true, row: serverpb.RegionStatus_ACTIVE_SLAVE, said: "serving", member: "SLAVE"}
)

// but returns a condition after a change.
func (s shown) but(change func(*shown)) shown {
	change(&s)
	return s
}

var rejecting = regexp.MustCompile(`(?m)^dkv_writes_refused\{.*\} 1$`)

// show asks everything that presents a node's condition. The reasons come with it.
func show(t *testing.T, p *process) (s shown, reasons []string) {
	t.Helper()
	h := healthOf(t, p.ops)
	s.health, reasons = h.Status, h.Reasons
	s.state, s.leader = h.VBuckets[0].State, h.VBuckets[0].IsLeader
	s.quick = answers(t, p.ops, "/health/quick")
	probes := ask(t, p.ops, "/readyz?verbose")
	s.grpc, s.storage = strings.Contains(probes, "[+]grpc ok"), strings.Contains(probes, "[+]storage ok")
	s.rejects = rejecting.MatchString(ask(t, p.ops, "/metrics"))
	conn := connect(t, p.listen)
	defer conn.Close()
	ctx := testkit.Within(t, testkit.Patience)
	check, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s.serving = check.GetStatus() == healthpb.HealthCheckResponse_SERVING
	row, err := serverpb.NewDKVDiscoveryNodeClient(conn).GetStatus(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.row = row.GetStatus()
	status, err := serverpb.NewDKVNodeClient(conn).GetNodeStatus(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.said = status.GetVBuckets()[0].GetState()
	s.leader = s.leader && status.GetVBuckets()[0].GetIsLeader()
	var document statusDocument
	if err := json.Unmarshal([]byte(ask(t, p.ops, "/admin/cluster/status")), &document); err != nil {
		t.Fatal(err)
	}
	for _, m := range document.VBuckets[0].Members {
		if m.ID == status.GetNodeId() || m.State == "SLAVE" {
			s.member = m.State
		}
	}
	return s, reasons
}

// answers reports whether a path is answered with OK.
func answers(t *testing.T, address, path string) bool {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// wantShown waits until everything shows the same condition, and the health document a
// reason; an empty one is none at all.
func wantShown(t *testing.T, p *process, name string, want shown, reason string) {
	t.Helper()
	var got shown
	var reasons []string
	defer func() {
		if t.Failed() {
			t.Logf("%s: %+v, %q;\nwant %+v, %q", name, got, reasons, want, reason)
		}
	}()
	testkit.Eventually(t, name, func() bool {
		got, reasons = show(t, p)
		all := strings.Join(reasons, "\n")
		return got == want && strings.Contains(all, reason) && (reason != "" || all == "")
	})
}

func post(t *testing.T, p *process, path, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post("http://"+p.ops+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
}

// TestAllShowTheSameCondition runs three masters, a slave and a node of the registry: in
// each state that they get into, everything that presents their condition agrees.
func TestAllShowTheSameCondition(t *testing.T) {
	registry := start(t, "--role", "discovery")
	registry.http()
	nodes := mastersWith(t, 3, "--discovery-service.client.discovery-service-addr", registry.listen)
	slave := start(t, "--role", "slave", "--repl-poll-interval", "200ms", "--discovery-service.client.discovery-service-addr", registry.listen)
	if _, err := serverpb.NewDKVClient(connect(t, nodes[0].grpc())).Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	slave.http()
	leader, followers := lead(t, nodes)
	wantShown(t, leader, "a leader", leads, "")
	for _, p := range followers {
		wantShown(t, p, "a follower", follows, "")
	}
	wantShown(t, slave, "a slave", copies, "")
	wantShown(t, registry, "a registry of one", leads, "")
	wantRows(t, registry, map[string]string{leader.listen: "LEADER", followers[0].listen: "SECONDARY_FOLLOWER", followers[1].listen: "SECONDARY_FOLLOWER", slave.listen: "ACTIVE_SLAVE"})

	post(t, leader, "/admin/pause-writes", "")
	paused := func(s *shown) { s.health, s.rejects = "degraded", true }
	wantShown(t, leader, "a leader whose writes are paused", leads.but(paused), "paused")
	wantShown(t, followers[0], "a follower of one whose writes are paused", follows.but(paused), "paused")
	wantShown(t, slave, "a slave of one whose writes are paused", copies, "")
	post(t, leader, "/admin/resume-writes", "")
	wantShown(t, leader, "a leader whose writes are resumed", leads, "")

	followers[0].stop()
	leader.stop()
	left := followers[1]
	wantShown(t, left, "a member without a majority", follows.but(func(s *shown) {
		s.health, s.rejects, s.row = "degraded", true, serverpb.RegionStatus_INACTIVE
	}), "no leader is known")
	wantShown(t, slave, "a slave of a member without a majority", copies, "")
	left.stop()
	wantShown(t, slave, "a slave without a master", copies.but(func(s *shown) {
		s.health, s.quick, s.grpc, s.serving, s.row = "unhealthy", false, false, false, serverpb.RegionStatus_INACTIVE
	}), "has heard of no master")
}

// lead returns the master that leads, and the others.
func lead(t *testing.T, nodes []*process) (leader *process, followers []*process) {
	t.Helper()
	testkit.Eventually(t, "one of the masters leads", func() bool {
		leader, followers = nil, nil
		for _, p := range nodes {
			if healthOf(t, p.ops).VBuckets[0].IsLeader {
				leader = p
			} else {
				followers = append(followers, p)
			}
		}
		return len(followers) == len(nodes)-1
	})
	return leader, followers
}

// wantRows waits until the registry has the parts of the nodes, by address.
func wantRows(t *testing.T, registry *process, want map[string]string) {
	t.Helper()
	client := serverpb.NewDKVDiscoveryClient(connect(t, registry.listen))
	var got map[string]string
	defer func() {
		if t.Failed() {
			t.Log("the registry has ", got)
		}
	}()
	testkit.Eventually(t, fmt.Sprint("the registry has ", want), func() bool {
		info, err := client.GetClusterInfo(testkit.Within(t, testkit.Patience), &serverpb.GetClusterInfoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		got = make(map[string]string)
		for _, r := range info.GetRegionInfos() {
			status := r.GetStatus()
			if status == serverpb.RegionStatus_PRIMARY_FOLLOWER {
				status = serverpb.RegionStatus_SECONDARY_FOLLOWER // the registry chooses one of them
			}
			got[r.GetNodeAddress()] = status.String()
		}
		return maps.Equal(got, want)
	})
}

// faulty is an engine whose writes can be made to fail.
type faulty struct {
	storage.Engine
	fault *fault
}

// fault is switched on by a test.
type fault struct {
	mu  sync.Mutex
	err error
}

func (f *fault) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fault) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *fault) wrap(e storage.Engine) storage.Engine { return faulty{e, f} }

func (e faulty) Write(b *storage.Batch, sync bool) error {
	if err := e.fault.get(); err != nil {
		return err
	}
	return e.Engine.Write(b, sync)
}

// TestFailedStorageShowsEverywhere: a standalone node whose storage fails still serves
// reads and is degraded; a master steps aside for the others.
func TestFailedStorageShowsEverywhere(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want shown
	}{
		{"standalone", nil, leads.but(func(s *shown) { s.health = "degraded" })},
		{"master", []string{"--role", "master", "--disable-discovery-client", "--nexus-node-url", "http://" + testkit.Address(t)}, leads.but(func(s *shown) {
			s.health, s.quick, s.serving, s.grpc, s.leader = "unhealthy", false, false, false, false
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := new(fault)
			p := startWrapped(t, disk.wrap, c.args...)
			kv := serverpb.NewDKVClient(connect(t, p.grpc()))
			put := func() error {
				_, err := kv.Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")})
				return err
			}
			if err := put(); err != nil {
				t.Fatal(err)
			}
			wantShown(t, p, "it leads", leads, "")
			disk.set(fmt.Errorf("write block: %w", os.ErrInvalid))
			if err := put(); err == nil {
				t.Error("a write is acknowledged that was not written")
			}
			wantShown(t, p, "its storage has failed", c.want.but(func(s *shown) {
				s.state, s.said, s.member, s.rejects, s.row = "failed", "failed", "failed", true, serverpb.RegionStatus_INACTIVE
			}), "storage failed")
		})
	}
}

// TestRestoringShowsEverywhere: a node in the middle of a restore serves what it had, and
// rejects writes.
func TestRestoringShowsEverywhere(t *testing.T) {
	opening, release := make(chan struct{}), make(chan struct{})
	engines := 0
	p := startWrapped(t, func(e storage.Engine) storage.Engine {
		if engines++; engines == 2 { // the one that takes the present one's place
			close(opening)
			<-release
		}
		return e
	}, "--backup-dir", t.TempDir())
	conn := connect(t, p.grpc())
	wantShown(t, p, "it leads", leads, "")
	if _, err := serverpb.NewDKVBackupRestoreClient(conn).Backup(testkit.Within(t, testkit.Patience), &serverpb.BackupRequest{BackupPath: "b"}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := serverpb.NewDKVBackupRestoreClient(conn).Restore(testkit.Within(t, testkit.Patience), &serverpb.RestoreRequest{RestorePath: "b"})
		done <- err
	}()
	<-opening
	wantShown(t, p, "it is restoring", leads.but(func(s *shown) {
		s.health, s.state, s.said, s.member, s.rejects = "degraded", "restoring", "restoring", "restoring", true
	}), "a restore is under way")
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantShown(t, p, "it has restored", leads, "")
}
