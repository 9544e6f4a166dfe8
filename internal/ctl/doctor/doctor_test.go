package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/observe"
)

// healthy returns three masters in three zones, a slave, and a registry of three, with
// nothing wrong with any of them.
func healthy(t *testing.T) *observe.Cluster {
	c := &observe.Cluster{At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for i, role := range []string{"master", "master", "master", "slave", "discovery", "discovery", "discovery"} {
		c.Nodes = append(c.Nodes, node(t, c.At, i, role))
	}
	for _, n := range c.Nodes[:4] {
		c.Rows = append(c.Rows, &serverpb.RegionInfo{Database: "default", NodeAddress: n.Address, Status: serverpb.RegionStatus_ACTIVE_SLAVE})
	}
	return c
}

func node(t *testing.T, at time.Time, i int, role string) *observe.Node {
	addr := fmt.Sprintf("10.0.0.%d:8080", i+1)
	n := &observe.Node{Address: addr, Status: &serverpb.NodeStatusResponse{NodeName: fmt.Sprintf("n%d", i+1), NodeId: fmt.Sprint(i + 1), Role: role,
		Address: addr, HttpAddress: fmt.Sprintf("10.0.0.%d:8081", i+1), ClusterId: map[bool]string{true: "registry", false: "data"}[role == "discovery"],
		Database: "default", Version: "1.0", Uptime: 3600 * 10, Timing: "lan", ClusterTiming: "lan",
		VBuckets: []*serverpb.VBucketStatus{{VBucket: "default", State: "serving", IsLeader: i == 0 || i == 4, Leader: "10.0.0.1:8080", HistoryId: "h",
			CommitIndex: 100, AppliedIndex: 100, FirstChangeNumber: 1, ClockMillis: uint64(at.UnixMilli())}}}}
	if role != "slave" {
		n.MemberOf, n.MemberRole = n.Status.ClusterId, role
		n.Member = &modelspb.NodeInfo{NodeUrl: fmt.Sprintf("http://10.0.0.%d:9020", i+1), NodeId: uint64(i + 1), Address: addr, DcID: fmt.Sprintf("zone%d", i%3)}
	}
	health := `{"status": "healthy", "reasons": [], "disk": {"free_bytes": 500000000000, "total_bytes": 1000000000000, "reserve_bytes": 1000000000}}`
	report := fmt.Sprintf(`{"config": {"role": %q, "disable-discovery-client": "false", "discovery-service.client.discovery-service-addr": "multi:///10.0.0.5:8080",
		"changelog-max-age": "24h", "max-key-size": "1KiB", "block-cache-size": "1GiB", "write-buffer-size": "256MiB", "max-memory-in-flight": "256MiB",
		"allow-insecure": "false", "auth-file": "auth.yaml", "tls-mode": "required", "listen-addr": "0.0.0.0:8080", "diskless": "false", "repl-ack": "async"},
		"host": {"name": "host%d", "cpus": 4, "memory_bytes": 8589934592, "available_bytes": 4294967296, "resident_bytes": 1000000000,
			"files_limit": 65536, "files_open": 100, "clock_synchronized": true, "time": %q},
		"disk": {"path": "/var/lib/dkvsrv", "sync_seconds": 0.001},
		"certificates": [{"of": "node", "file": "node.pem", "not_after": %q}],
		"backups": {"dir": "/backups", "count": 1, "last": %q}}`, role, i+1, at.Format(time.RFC3339), at.AddDate(0, 6, 0).Format(time.RFC3339), at.AddDate(0, 0, -1).Format(time.RFC3339))
	for into, text := range map[any]string{&n.Health: health, &n.Report: report, &n.Metrics: "[]"} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// metric sets the value of a metric of a node.
func metric(n *observe.Node, name string, value float64) {
	if !slices.Contains(observe.Names(), name) {
		panic(name + " is not among the metrics that nodes are asked for")
	}
	n.Metrics = new(observe.Metrics)
	if err := json.Unmarshal(fmt.Appendf(nil, `[{"name": %q, "metrics": [{"value": %v}]}]`, name, value), n.Metrics); err != nil {
		panic(err) // of the test's own text
	}
}

// down makes a node one that does not answer.
func down(n *observe.Node) {
	n.Status, n.Health, n.Report, n.Metrics, n.Err = nil, nil, nil, nil, errors.New("connection refused")
}

func allConfigs(c *observe.Cluster, key, value string) {
	for _, n := range c.Nodes {
		n.Report.Config[key] = value
	}
}

// broken has for each check a change to a healthy cluster after which it finds something.
var broken = map[string]func(c *observe.Cluster){
	"unreachable": func(c *observe.Cluster) { down(c.Nodes[3]) },
	"majority":    func(c *observe.Cluster) { down(c.Nodes[1]); down(c.Nodes[2]) },
	"spare":       func(c *observe.Cluster) { down(c.Nodes[2]) },
	"even-voters": func(c *observe.Cluster) {
		fourth := *c.Nodes[2]
		fourth.Address = "10.0.0.9:8080"
		c.Nodes = append(c.Nodes, &fourth)
	},
	"few-voters":     func(c *observe.Cluster) { c.Nodes = append(c.Nodes[:2], c.Nodes[3:]...) },
	"one-zone":       func(c *observe.Cluster) { c.Nodes[1].Member.DcID, c.Nodes[2].Member.DcID = "zone0", "zone0" },
	"one-host":       func(c *observe.Cluster) { c.Nodes[1].Report.Host.Name = "host1" },
	"same-name":      func(c *observe.Cluster) { c.Nodes[3].Status.NodeName = c.Nodes[0].Status.NodeName },
	"leaders":        func(c *observe.Cluster) { c.Nodes[0].Status.VBuckets[0].IsLeader = false },
	"leader-balance": unbalance,
	"leader-changes": func(c *observe.Cluster) { metric(c.Nodes[0], "dkv_raft_leader_changes_total", 40) },
	"versions":       func(c *observe.Cluster) { c.Nodes[1].Status.Version = "0.9" },
	"upgrade": func(c *observe.Cluster) {
		for _, n := range c.Nodes[:3] {
			n.Status.ClusterVersion, n.Status.Understands = 4, 5
		}
	},
	"timing":     func(c *observe.Cluster) { c.Nodes[1].Status.Timing = "wan" },
	"serving":    func(c *observe.Cluster) { c.Nodes[1].Status.VBuckets[0].State = "failed" },
	"paused":     func(c *observe.Cluster) { c.Nodes[0].Status.VBuckets[0].WritesPaused = true },
	"promoted":   func(c *observe.Cluster) { c.Nodes[3].Status.Became = "it was promoted" },
	"damage":     func(c *observe.Cluster) { metric(c.Nodes[1], "dkv_storage_corrupt", 1) },
	"compaction": func(c *observe.Cluster) { metric(c.Nodes[1], "dkv_storage_pending_compaction_bytes", 1e11) },
	"own-view": func(c *observe.Cluster) {
		c.Nodes[1].Health.Status, c.Nodes[1].Health.Reasons = "degraded", []string{"it says so"}
	},
	"lag":              func(c *observe.Cluster) { c.Nodes[3].Status.VBuckets[0].LagChanges = 5000 },
	"histories":        func(c *observe.Cluster) { c.Nodes[3].Status.VBuckets[0].HistoryId = "other" },
	"copies-kept":      func(c *observe.Cluster) { metric(c.Nodes[3], "dkv_slave_copy_kept", 1) },
	"stale":            func(c *observe.Cluster) { c.Nodes[3].Status.VBuckets[0].Unhealthy = "too old" },
	"changelog-window": func(c *observe.Cluster) { allConfigs(c, "changelog-max-age", "1h") },
	"changelog-behind": func(c *observe.Cluster) { c.Nodes[0].Status.VBuckets[0].FirstChangeNumber = 200 },
	"dead-slaves": func(c *observe.Cluster) {
		master := "10.0.0.1:8080"
		c.Rows = append(c.Rows, &serverpb.RegionInfo{NodeAddress: "10.0.0.99:1", Status: serverpb.RegionStatus_INACTIVE, MasterHost: &master})
	},
	"standbys": func(c *observe.Cluster) {
		c.Nodes[0].Status.VBuckets[0].Standing = &serverpb.StandingSet{Level: "sync", Fallback: true}
	},
	"no-copy": func(c *observe.Cluster) {
		c.Nodes = c.Nodes[:1]
		c.Nodes[0].Status.Role, c.Nodes[0].Member = "none", nil
	},
	"registry-reached":  func(c *observe.Cluster) { c.Nodes, c.Rows = c.Nodes[:4], nil },
	"registry-size":     func(c *observe.Cluster) { c.Nodes = c.Nodes[:5] },
	"registry-disputes": func(c *observe.Cluster) { metric(c.Nodes[4], "dkv_cluster_disputed_vbuckets", 1) },
	"registry-rows":     func(c *observe.Cluster) { c.Rows = c.Rows[1:] },
	"clock-service":     func(c *observe.Cluster) { c.Nodes[1].Report.Host.ClockSynchronized = new(bool) },
	"clock-skew":        func(c *observe.Cluster) { c.Nodes[1].Ahead = -2 * time.Second },
	"clock-step":        func(c *observe.Cluster) { metric(c.Nodes[1], "dkv_clock_damped_seconds", -30) },
	"log-clock": func(c *observe.Cluster) {
		c.Nodes[0].Status.VBuckets[0].ClockMillis += uint64(time.Hour.Milliseconds())
	},
	"disk-room":       func(c *observe.Cluster) { c.Nodes[1].Health.Disk.Free = 1 },
	"disk-sync":       func(c *observe.Cluster) { c.Nodes[1].Report.Disk.SyncSeconds = 0.3 },
	"disk-kind":       func(c *observe.Cluster) { c.Nodes[1].Report.Disk.Path = "/tmp/dkv" },
	"diskless":        func(c *observe.Cluster) { c.Nodes[0].Report.Config["diskless"] = "true" },
	"open-files":      func(c *observe.Cluster) { c.Nodes[1].Report.Host.FilesLimit = 1024 },
	"memory-config":   func(c *observe.Cluster) { c.Nodes[1].Report.Config["block-cache-size"] = "8GiB" },
	"memory-use":      func(c *observe.Cluster) { c.Nodes[1].Report.Host.Resident = 8 << 30 },
	"swap":            func(c *observe.Cluster) { c.Nodes[1].Report.Host.Swapped = 1 << 30 },
	"processors":      func(c *observe.Cluster) { c.Nodes[1].Report.Host.CPUs = 1 },
	"config-limits":   func(c *observe.Cluster) { c.Nodes[1].Report.Config["max-key-size"] = "2KiB" },
	"config-log":      func(c *observe.Cluster) { c.Nodes[1].Report.Config["repl-ack"] = "sync" },
	"config-raft":     func(c *observe.Cluster) { c.Nodes[1].Report.Config["lease-duration"] = "9s" },
	"config-security": func(c *observe.Cluster) { c.Nodes[1].Report.Config["tls-mode"] = "permissive" },
	"config-notices":  func(c *observe.Cluster) { c.Nodes[1].Report.Notices = []string{"nexus-max-wals has no effect"} },
	"certificates":    func(c *observe.Cluster) { c.Nodes[1].Report.Certificates[0].NotAfter = c.At.AddDate(0, 0, 5) },
	"allow-insecure": func(c *observe.Cluster) {
		allConfigs(c, "auth-file", "")
		allConfigs(c, "allow-insecure", "true")
	},
	"clear-text": func(c *observe.Cluster) { allConfigs(c, "tls-mode", "off") },
	"auth-file":  func(c *observe.Cluster) { metric(c.Nodes[1], "dkv_auth_reload_failures_total", 2) },
	"backup-age": func(c *observe.Cluster) {
		for _, n := range c.Nodes {
			n.Report.Backups.Last = c.At.AddDate(0, -1, 0)
		}
	},
	"backup-place": func(c *observe.Cluster) { c.Nodes[0].Report.Backups.Dir = "/var/lib/dkvsrv/backups" },
	"backup-read":  func(c *observe.Cluster) { c.Nodes[0].Report.Backups.Fault = "permission denied" },
}

// unbalance gives the first of three masters the leaders of eight vBuckets.
func unbalance(c *observe.Cluster) {
	for i, n := range c.Nodes[:3] {
		n.Status.VBuckets = nil
		for v := range 8 {
			n.Status.VBuckets = append(n.Status.VBuckets, &serverpb.VBucketStatus{VBucket: fmt.Sprint(v), State: "serving", IsLeader: i == 0})
		}
	}
}

func TestNothingIsWrong(t *testing.T) {
	if d := Examine(healthy(t)); len(d.Findings) > 0 || d.Nodes != 7 {
		t.Errorf("%+v", d.Findings)
	}
}

// TestEachCheckFinds holds that each check finds what it is for, with all that a finding says.
func TestEachCheckFinds(t *testing.T) {
	for _, check := range Checks() {
		breakIt := broken[check.ID]
		if breakIt == nil {
			t.Errorf("nothing shows that %s finds anything", check.ID)
			continue
		}
		c := healthy(t)
		breakIt(c)
		found := 0
		for _, f := range Examine(c).Findings {
			if f.What == "" || f.Why == "" || f.Mend == "" || rank(f.Severity) < 0 {
				t.Errorf("%s: a finding says too little: %+v", check.ID, f)
			}
			if f.Check == check.ID {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s has %d findings, want 1", check.ID, found)
		}
	}
	if len(broken) != len(Checks()) {
		t.Errorf("%d cases for %d checks", len(broken), len(Checks()))
	}
}

// TestSilentNodeOfTheRegistry: it counts as one of the registry, and not of the masters.
func TestSilentNodeOfTheRegistry(t *testing.T) {
	c := healthy(t)
	down(c.Nodes[5])
	var found []string
	for _, f := range Examine(c).Findings {
		found = append(found, f.Check+": "+f.What)
	}
	if len(found) != 2 || !strings.HasPrefix(found[0], "unreachable") || !strings.HasPrefix(found[1], "spare: 2 of 3 voters of the registry are alive") {
		t.Errorf("%q", found)
	}
}

// TestSlaveThatPolls: a slave that lacks nothing is as old as its last poll, which is no lag.
func TestSlaveThatPolls(t *testing.T) {
	for _, c := range []struct {
		changes, millis uint64
		findings        int
	}{{0, 5500, 0}, {0, 16000, 1}, {1, 5500, 1}, {1, 4000, 0}} {
		healthy := healthy(t)
		v := healthy.Nodes[3].Status.VBuckets[0]
		v.LagChanges, v.LagMillis = c.changes, c.millis
		if d := Examine(healthy); len(d.Findings) != c.findings {
			t.Errorf("%+v: %+v", c, d.Findings)
		}
	}
}

// TestReplacedMaster: its backups are not the newest of the database, its log is no one's to follow,
// and its copy does not lag.
func TestReplacedMaster(t *testing.T) {
	c := healthy(t)
	former := node(t, c.At, 7, observe.Standalone)
	former.Member, former.Status.ClusterId, former.Status.Became = nil, "data", "a promotion has replaced this node"
	v := former.Status.VBuckets[0]
	v.Mode, v.State, v.IsLeader, v.HistoryId, v.LagMillis = "local", "failed", true, "other", uint64((24 * time.Hour).Milliseconds())
	c.Rows = append(c.Rows, &serverpb.RegionInfo{Database: "default", NodeAddress: former.Address})
	c.Nodes = append([]*observe.Node{former}, c.Nodes...)
	for _, n := range c.Nodes[1:] {
		n.Report.Backups.Last = c.At.AddDate(0, -1, 0)
	}
	var found []string
	for _, f := range Examine(c).Findings {
		if !slices.Contains(found, f.Check) {
			found = append(found, f.Check)
		}
		if f.Check == "backup-age" && !strings.Contains(f.Mend, c.Nodes[1].Address) {
			t.Errorf("%+v", f)
		}
	}
	slices.Sort(found)
	if want := []string{"backup-age", "promoted", "serving"}; !slices.Equal(found, want) {
		t.Errorf("findings of %q, want %q", found, want)
	}
	c.Nodes = c.Nodes[:1]
	for _, f := range Examine(c).Findings {
		if f.Check == "no-copy" {
			t.Errorf("a slave of it is advised: %+v", f)
		}
	}
}

// TestWhatCannotBeExamined holds that a check without its facts is not called passed.
func TestWhatCannotBeExamined(t *testing.T) {
	c := healthy(t)
	c.Nodes[1].Report = nil
	states := func() map[string]State {
		out := make(map[string]State)
		for _, r := range Examine(c).Checks {
			out[r.ID] = r.State
		}
		return out
	}
	if s := states(); s["swap"] != Partly || s["paused"] != OK {
		t.Errorf("one node has not reported: %v", s)
	}
	for _, n := range c.Nodes {
		n.Report, n.Metrics, n.Health = nil, nil, nil
	}
	if s := states(); s["swap"] != Skipped || s["damage"] != Skipped || s["own-view"] != Skipped || s["paused"] != OK {
		t.Errorf("no node has reported: %v", s)
	}
}

func TestProblemsComeFirst(t *testing.T) {
	c := healthy(t)
	for _, id := range []string{"processors", "paused", "versions"} {
		broken[id](c)
	}
	c.Nodes[2].Report.Host.CPUs = 1
	d := Examine(c)
	var text strings.Builder
	if err := d.Write(&text, true); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text.String(), "\n")
	if d.Problems != 1 || d.Warnings != 2 || lines[0] != "PROBLEM  paused n1 (10.0.0.1:8080): writes of vBucket default are paused" {
		t.Errorf("%+v\n%s", d, &text)
	}
	for _, want := range []string{
		"         mend: dkvctl -a 10.0.0.1:8080 -resumeWrites",
		"WARNING  processors n2 (10.0.0.2:8080), n3 (10.0.0.3:8080): its host has one processor",
		"ok       swap: the process is not swapped out",
		fmt.Sprintf("%d checks of 7 nodes: 1 problem, 2 warnings; %d checks found nothing", len(Checks()), len(Checks())-3),
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("%q is missing in\n%s", want, &text)
		}
	}
}

// TestManyFindingsAlike: the vBuckets of a node may each have a reason of their own, of which some
// are printed and all are in the diagnosis.
func TestManyFindingsAlike(t *testing.T) {
	c := healthy(t)
	c.Nodes[0].Health.Status = "degraded"
	for i := range 1000 {
		c.Nodes[0].Health.Reasons = append(c.Nodes[0].Health.Reasons, fmt.Sprintf("vBucket %d is ill", i))
	}
	d := Examine(c)
	var some, all strings.Builder
	if err := errors.Join(d.Write(&some, false), d.Write(&all, true)); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(some.String(), "WARNING"); n != alike || !strings.Contains(some.String(), "\n         ... and 997 more of own-view n1 (10.0.0.1:8080): -v shows them\n") {
		t.Errorf("%d warnings:\n%s", n, &some)
	}
	if n := strings.Count(all.String(), "WARNING"); n != 1000 || len(d.Findings) != 1000 {
		t.Errorf("-v shows %d warnings, and there are %d findings", n, len(d.Findings))
	}
}

// TestFullDisk: its reserve is named, and what follows from it is no second problem.
func TestFullDisk(t *testing.T) {
	for i, want := range map[int]string{0: "writes are rejected: 0 bytes of 1.0 GiB are free, 0 %; writes stop below 1.0 MiB (disk-reserve)", 3: "its copy follows no further: 0 bytes"} {
		c := healthy(t)
		n := c.Nodes[i]
		n.Health.Disk.Free, n.Health.Disk.Total, n.Health.Disk.Reserve = 0, 1<<30, 1<<20
		n.Report.Disk.Free, n.Report.Disk.Total, n.Report.Disk.Reserve = 0, 1<<30, 1<<20
		n.Report.Disk.SyncFault = "no space left on device"
		if d := Examine(c); d.Problems != 1 || !strings.HasPrefix(d.Findings[0].What, want) || strings.Contains(d.Findings[0].Mend, "-snapshot") != (i == 0) {
			t.Errorf("%+v", d.Findings)
		}
	}
}
