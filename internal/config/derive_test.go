package config

import (
	"errors"
	"math"
	"net/netip"
	"path/filepath"
	"reflect"
	"testing"
	"testing/fstest"
	"time"
)

func TestDerivedFolders(t *testing.T) {
	s := load(t, nil, "--root-folder", "r").Storage
	if want := filepath.Join("r", "node1"); s.DBFolder != want || s.BackupDir != filepath.Join(want, "backups") {
		t.Errorf("from root-folder: %+v", s)
	}
	s = load(t, nil, "--root-folder", "r", "--db-folder", "d", "--node-name", "x").Storage
	if s.DBFolder != "d" || s.BackupDir != filepath.Join("d", "backups") {
		t.Errorf("db-folder wins: %+v", s)
	}
	// Files for the first DKV leave keys empty to have them derived.
	c := load(t, nil, "--db-folder=", "--node-name=", "--nexus-log-dir=")
	if c.Storage.DBFolder != filepath.Join("data", "node1") || c.IsSet("db-folder") || c.IsSet("node-name") {
		t.Errorf("empty keys: %+v %+v", c.Node, c.Storage)
	}
}

func TestHostWithoutName(t *testing.T) {
	host := testHost()
	for _, err := range []error{nil, errors.New("no kernel")} {
		host.Name = func() (string, error) { return "", err }
		if _, err := LoadOn(host, nil, nil); errorKind(err) != valueError {
			t.Errorf("no name: %v", err)
		}
		if _, err := LoadOn(host, []string{"--node-name", "x"}, nil); err != nil {
			t.Errorf("the name is given: %v", err)
		}
	}
	host.Name = func() (string, error) { return "a/b", nil }
	if _, err := LoadOn(host, nil, nil); errorKind(err) != valueError {
		t.Errorf("a name that is no path element: %v", err)
	}
}

func TestHostWithoutAddress(t *testing.T) {
	host := testHost()
	host.Addrs = func() []netip.Addr { return nil }
	inv, err := LoadOn(host, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := inv.Config.Network.AdvertiseAddr; got != "127.0.0.1:8080" {
		t.Errorf("advertise-addr %q", got)
	}
}

func TestBlockCache(t *testing.T) {
	tests := []struct {
		memory Size
		args   []string
		want   Size
	}{
		{8 * GiB, nil, 2 * GiB},
		{12 * GiB, nil, 3 * GiB},
		{64 * GiB, nil, 3 * GiB},
		{400 * MiB, nil, 100 * MiB},
		{0, nil, cacheOfUnknown},
		{8 * GiB, []string{"--block-cache-size", "5GiB"}, 5 * GiB},
		{8 * GiB, []string{"--block-cache-size", "0"}, 0},
	}
	for _, tt := range tests {
		host := testHost()
		host.Memory = func() Size { return tt.memory }
		inv, err := LoadOn(host, tt.args, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := inv.Config.Storage.BlockCacheSize; got != tt.want {
			t.Errorf("%v of memory, %q: %v, want %v", tt.memory, tt.args, got, tt.want)
		}
	}
}

func TestReserve(t *testing.T) {
	s := &Storage{}
	for disk, want := range map[Size]Size{0: 0, 1000: 50, 20 * GiB: GiB, 4 * TiB: GiB} {
		if got := s.ReserveOf(disk); got != want {
			t.Errorf("reserve of %v = %v, want %v", disk, got, want)
		}
	}
	s.DiskReserve = 7 * GiB
	if got := s.ReserveOf(20 * GiB); got != 7*GiB {
		t.Errorf("set reserve = %v", got)
	}
	c := load(t, nil, "--disk-reserve", "0")
	if got := c.Storage.ReserveOf(20 * GiB); got != 0 || c.Origin("disk-reserve").Source != FromFlag {
		t.Errorf("reserve that was set to 0 = %v, from %v", got, c.Origin("disk-reserve"))
	}
}

func TestRaftPresets(t *testing.T) {
	ms := time.Millisecond
	tests := []struct {
		args []string
		want Raft
	}{
		{nil, Raft{RaftLAN, 50 * ms, 20, 2, 400 * ms}},
		{[]string{"--raft-profile", "wan"}, Raft{RaftWAN, 100 * ms, 50, 5, 2000 * ms}},
		{[]string{"--raft-profile", "wan", "--raft-heartbeat-rtt", "3", "--lease-duration", "1"}, Raft{RaftWAN, 100 * ms, 50, 3, 1000 * ms}},
	}
	for _, tt := range tests {
		if got := load(t, nil, tt.args...).Raft; got != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.args, got, tt.want)
		}
	}
	if got := (&Raft{RTT: 50 * ms, ElectionRTT: 20}).ElectionTimeout(); got != time.Second {
		t.Errorf("election time-out %v", got)
	}
}

func TestCompleteIsIdempotent(t *testing.T) {
	once := complete(t)
	twice := complete(t)
	if err := twice.Complete(Host{Memory: func() Size { return 8 * GiB }, OpenFiles: func() int { return 1024 }}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(once, twice) {
		t.Errorf("once %+v\ntwice %+v", once, twice)
	}
}

func TestUsableMemory(t *testing.T) {
	const meminfo = "MemTotal:       16777216 kB\nMemFree:  1 kB\n" // 16 GiB
	tests := []struct {
		name  string
		files map[string]string
		want  Size
	}{
		{"no limit", map[string]string{"proc/meminfo": meminfo}, 16 * GiB},
		{"nothing known", nil, 0},
		{"nonsense", map[string]string{"proc/meminfo": "MemTotal: much kB\n"}, 0},
		{"version 2, unlimited", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 16 * GiB},
		{"version 2, container", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, GiB},
		{"version 2, service", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/dkv.service\n",
			"sys/fs/cgroup/system.slice/dkv.service/memory.max": "2147483648\n"}, 2 * GiB},
		{"version 2, an ancestor is stricter", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "2147483648\n", "sys/fs/cgroup/a/memory.max": "1073741824\n"}, GiB},
		{"version 2, the host's path inside a container", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/../../pod/x\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, GiB},
		{"version 1", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "9:cpu,cpuacct:/x\n4:memory:/docker/abc\nbroken\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n"}, 512 * MiB},
		{"version 1, unlimited", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 16 * GiB},
		{"limit above the machine", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "99999999999999\n"}, 16 * GiB},
		{"limit alone", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1024\n"}, KiB},
	}
	for _, tt := range tests {
		root := fstest.MapFS{}
		for name, text := range tt.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := usableMemory(root); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Storage keeps what it needs of the file descriptors, whatever connections ask for.
func TestConnectionsLeaveFilesToStorage(t *testing.T) {
	for _, limit := range []int{200, 300, 1024, 4096, 20000, 1 << 20, math.MaxInt32} {
		for _, p := range []Preset{PresetSmall, PresetStandard, PresetLarge} {
			most := sizingOf(p).connections
			n := connectionsFor(limit, most)
			if n < leastConnections || n > most {
				t.Errorf("limit %d: %d connections", limit, n)
			}
			if all := n + EngineFiles(limit) + HTTPFiles(limit); all > limit-ownFiles/2 {
				t.Errorf("limit %d: %d are given away", limit, all)
			}
		}
	}
	c := load(t, nil)
	if c.Limits.Connections != 384 || c.Limits.ConnectionsPerHost != 288 || c.Origin("max-connections").Source != Derived {
		t.Errorf("of 1024 files: %+v", c.Limits)
	}
	c = load(t, nil, "--max-connections", "100")
	if c.Limits.Connections != 100 || c.Limits.ConnectionsPerHost != 75 {
		t.Errorf("of 100 connections: %+v", c.Limits)
	}
}

// History takes memory on a diskless node, which keeps less of it.
func TestChangelogOfADisklessNode(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want Size
	}{
		{nil, GiB},
		{[]string{"--diskless", "--db-engine", "badger"}, 64 * MiB},
		{[]string{"--config", shippedFile, "--diskless", "--db-engine", "badger"}, 64 * MiB},
		{[]string{"--diskless", "--db-engine", "badger", "--changelog-max-bytes", "2GiB"}, 2 * GiB},
		{[]string{"--diskless", "--db-engine", "badger", "--changelog-max-bytes", "0"}, 0},
	} {
		inv, err := LoadOn(testHost(), tt.args, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := inv.Config.Changelog.MaxBytes; got != tt.want {
			t.Errorf("%q: %v, want %v", tt.args, got, tt.want)
		}
	}
}

func TestTLSModeFollowsTheCertificate(t *testing.T) {
	files := []string{"--tls-cert-file", "c", "--tls-key-file", "k", "--tls-ca-file", "a"}
	for _, c := range []struct {
		args []string
		want TLSMode
	}{
		{nil, TLSOff},
		{files, TLSRequired},
		{append([]string{"--tls-mode", "off"}, files...), TLSOff},
		{append([]string{"--tls-mode", "permissive"}, files...), TLSPermissive},
	} {
		inv, err := LoadOn(testHost(), c.args, nil)
		if err != nil || inv.Config.Security.TLSMode != c.want {
			t.Errorf("%q: %v, %v", c.args, inv, err)
		}
	}
}
