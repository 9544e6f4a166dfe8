package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPrecedence(t *testing.T) {
	file := write(t, "repl-poll-interval: 1s\nlog-level: warn\nnode-name: from-file\n")
	env := []string{"DKV_LOG_LEVEL=error", "DKV_NODE_NAME=from-env"}
	c := load(t, env, "--config", file, "--node-name", "from-flag")
	if got := c.Replication.PollInterval; got != time.Second {
		t.Errorf("file over default: %v", got)
	}
	if got := c.Log.Level; got != slog.LevelError {
		t.Errorf("environment over file: %v", got)
	}
	if got := c.Node.Name; got != "from-flag" {
		t.Errorf("flag over environment: %q", got)
	}
	if got := c.Limits.KeySize; got != KiB {
		t.Errorf("default: %v", got)
	}
	for key, want := range map[string]string{
		"repl-poll-interval": file + ":1", "log-level": "DKV_LOG_LEVEL", "node-name": "--node-name", "max-key-size": "default", "db-folder": "derived",
	} {
		if got := c.Origin(key).String(); got != want {
			t.Errorf("origin of %s = %q, want %q", key, got, want)
		}
	}
	if !c.IsSet("log-level") || c.IsSet("max-key-size") || c.IsSet("db-folder") || c.IsSet("no-such-key") {
		t.Error("IsSet is wrong about who set what")
	}
	if c.File() != file {
		t.Errorf("File() = %q", c.File())
	}
}

func TestWaysToWriteAFlag(t *testing.T) {
	file := write(t, "vbucket: v7\n")
	nested := "discovery-service.client.push-status-interval"
	tests := []struct {
		args []string
		want func(c *Config) bool
	}{
		{[]string{"--node-name", "x"}, func(c *Config) bool { return c.Node.Name == "x" }},
		{[]string{"--node-name=x"}, func(c *Config) bool { return c.Node.Name == "x" }},
		{[]string{"-node-name", "x"}, func(c *Config) bool { return c.Node.Name == "x" }},
		{[]string{"-node-name=x"}, func(c *Config) bool { return c.Node.Name == "x" }},
		{[]string{"-node-name=x=y"}, func(c *Config) bool { return c.Node.Name == "x=y" }},
		{[]string{"-node-name", "-x"}, func(c *Config) bool { return c.Node.Name == "-x" }},
		{[]string{"--node-name", "x", "--node-name", "y"}, func(c *Config) bool { return c.Node.Name == "y" }},
		{[]string{"--db-engine-ini="}, func(c *Config) bool { return c.Storage.EngineINI == "" }},
		{[]string{"-config", file}, func(c *Config) bool { return c.Node.VBucket == "v7" }},
		{[]string{"--config=" + file}, func(c *Config) bool { return c.Node.VBucket == "v7" }},
		{[]string{"-c", file}, func(c *Config) bool { return c.Node.VBucket == "v7" }},
		{[]string{"-c=" + file}, func(c *Config) bool { return c.Node.VBucket == "v7" }},
		{[]string{"--nexus-join"}, func(c *Config) bool { return c.Nexus.Join }},
		{[]string{"-nexus-join", "--node-name", "x"}, func(c *Config) bool { return c.Nexus.Join && c.Node.Name == "x" }},
		{[]string{"--disable-discovery-client=true"}, func(c *Config) bool { return c.Discovery.Disabled }},
		{[]string{"--nexus-lease-based-reads=false"}, func(c *Config) bool { return !c.Nexus.LeaseBasedReads }},
		{[]string{"--" + nested, "250ms"}, func(c *Config) bool { return c.Discovery.Client.PushStatusInterval == 250*time.Millisecond }},
		{[]string{"--"}, func(c *Config) bool { return c.Node.Name == "node1" }},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			if !tt.want(load(t, nil, tt.args...)) {
				t.Error("the flag did not arrive")
			}
		})
	}
}

// The sessions of the handbook, as far as they concern this package.
func TestSessions(t *testing.T) {
	urls := "http://127.0.0.1:9021,http://127.0.0.1:9022,http://127.0.0.1:9023"
	master := load(t, nil, "--config", shippedFile, "--db-folder", "d/n1", "--listen-addr", "127.0.0.1:9081", "--role", "master",
		"--disable-discovery-client=true", "--nexus-node-url", "http://127.0.0.1:9021", "--nexus-cluster-url", urls, "--nexus-join")
	if master.Role != RoleMaster || !master.Discovery.Disabled || !master.Nexus.Join || strings.Join(master.Nexus.ClusterURLs, ",") != urls {
		t.Errorf("master: %+v", master.Nexus)
	}
	if got, want := master.Nexus.LogDir, filepath.Join("d/n1", "nexus", "log"); got != want {
		t.Errorf("nexus-log-dir = %q, want %q", got, want)
	}
	slave := load(t, nil, "--config", shippedFile, "--diskless", "--listen-addr", "127.0.0.1:9091", "--db-engine", "badger", "--role", "slave")
	if slave.Role != RoleSlave || !slave.Storage.Diskless || slave.Storage.Engine != Badger {
		t.Errorf("slave: %+v", slave.Storage)
	}
	alone := load(t, nil)
	if alone.Role != RoleNone || alone.Network.ListenAddr != "0.0.0.0:8080" || alone.File() != "" {
		t.Errorf("bare start: %+v", alone)
	}
}

func TestUsageErrors(t *testing.T) {
	tests := []struct {
		args []string
		env  []string
		want string
	}{
		{[]string{"--rol", "x"}, nil, "unknown option --rol; did you mean --role?"},
		{[]string{"-v"}, nil, "unknown option --v; did you mean --version?"},
		{[]string{"-d", "x"}, nil, "unknown option --d; dkvsrv --help lists all keys"},
		{[]string{"-rol=x"}, nil, "unknown option --rol; did you mean --role?"},
		{[]string{"--status-ttl=5"}, nil, "unknown option --status-ttl; did you mean --discovery-service.server.status-ttl?"},
		{[]string{"--confg", "x"}, nil, "unknown option --confg; did you mean --config?"},
		{[]string{"--node-name", "a", "--xyzzy"}, nil, "unknown option --xyzzy; dkvsrv --help lists all keys"},
		{[]string{"--x\ny"}, nil, `unknown option --"x\ny"; dkvsrv --help lists all keys`},
		{[]string{"--=x"}, nil, `"--=x" is not an option: write --name VALUE or --name=VALUE`},
		{[]string{"--node-name", "a", "---role", "x"}, nil, `"---role" is not an option: write --name VALUE or --name=VALUE`},
		{[]string{"-"}, nil, `unexpected argument "-": options are written --name VALUE or --name=VALUE, booleans --name or --name=false`},
		{[]string{"--node-name", "a", "--role"}, nil, "option --role needs a value: write --role VALUE"},
		{[]string{"-c"}, nil, "option --c needs a value: write --c VALUE"},
		{[]string{"--diskless", "false"}, nil, `unexpected argument "false": options are written --name VALUE or --name=VALUE, booleans --name or --name=false`},
		{[]string{"serve"}, nil, `unexpected argument "serve": options are written --name VALUE or --name=VALUE, booleans --name or --name=false`},
	}
	for _, tt := range tests {
		inv, err := LoadOn(testHost(), tt.args, tt.env)
		if errorKind(err) != usageError || err.Error() != tt.want || inv != nil {
			t.Errorf("%q %q:\n got %v\nwant %s", tt.args, tt.env, err, tt.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	file := write(t, "vbucket: v7\n")
	c := load(t, []string{
		"HOME=/x", "DKVCTL_ADDR=x", "DKV_TOKEN=secret", "DKV_CONFIG=" + file,
		"DKV_DISCOVERY_SERVICE_CLIENT_PUSH_STATUS_INTERVAL=3", "DKV_DISKLESS=true", "DKV_DB_ENGINE=badger",
	})
	if c.Discovery.Client.PushStatusInterval != 3*time.Second || !c.Storage.Diskless || c.Node.VBucket != "v7" {
		t.Errorf("got %+v", c)
	}
	other := write(t, "vbucket: v8\n")
	if got := load(t, []string{"DKV_CONFIG=" + file}, "-c", other).Node.VBucket; got != "v8" {
		t.Errorf("--config does not win over DKV_CONFIG: vbucket %q", got)
	}
	_, err := LoadOn(testHost(), nil, []string{"DKV_REPL_POLL_INTERVAL=often"})
	if want := `DKV_REPL_POLL_INTERVAL: repl-poll-interval: "often" is not a duration`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %s...", err, want)
	}
}

// A variable that this version does not know stops no node: an orchestrator sets
// what no one typed.
func TestUnknownVariablesAreNoticed(t *testing.T) {
	tests := []struct{ env, want string }{
		{"DKV_ROL=x", "the environment variable DKV_ROL is ignored: there is no such key; did you mean DKV_ROLE?"},
		{"DKV_XYZZY=1", "the environment variable DKV_XYZZY is ignored: there is no such key; dkvsrv --help lists all keys"},
		{"DKV_STATUS_TTL=1", "the environment variable DKV_STATUS_TTL is ignored: there is no such key; did you mean DKV_DISCOVERY_SERVICE_SERVER_STATUS_TTL?"},
		{"DKV_=1", "the environment variable DKV_ is ignored: there is no such key; dkvsrv --help lists all keys"},
	}
	for _, tt := range tests {
		if got := load(t, []string{tt.env}).Notices(); len(got) != 1 || got[0] != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.env, got, tt.want)
		}
	}
}

// In Kubernetes a service named "dkv" puts these into every pod beside it.
func TestServiceLinksAreNoticed(t *testing.T) {
	links := []string{
		"DKV_SERVICE_HOST=10.0.0.1", "DKV_SERVICE_PORT=8080", "DKV_SERVICE_PORT_GRPC=8080", "DKV_PORT=tcp://10.0.0.1:8080",
		"DKV_PORT_8080_TCP=tcp://10.0.0.1:8080", "DKV_PORT_8080_TCP_PROTO=tcp", "DKV_MASTER_0_SERVICE_HOST=10.0.0.1",
	}
	notices := load(t, links).Notices()
	if len(notices) != len(links) {
		t.Fatalf("notices %q", notices)
	}
	for i, link := range links {
		name, _, _ := strings.Cut(link, "=")
		if !strings.HasPrefix(notices[i], name+" is ignored") {
			t.Errorf("notice %q", notices[i])
		}
	}
	for k := range newTable().all {
		if isServiceLink(k.env(), "tcp://10.0.0.1:8080") {
			t.Errorf("%s could be a service link", k.env())
		}
	}
}

func TestWhichFileIsRead(t *testing.T) {
	first, second := write(t, "vbucket: first\n"), write(t, "vbucket: second\n")
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	tests := []struct {
		name  string
		files []string
		args  []string
		want  string
	}{
		{"the first of the usual ones", []string{first, second}, nil, "first"},
		{"the next where one is missing", []string{missing, second}, nil, "second"},
		{"none", []string{missing}, nil, "default"},
		{"the named one", []string{first}, []string{"--config", second}, "second"},
	}
	for _, tt := range tests {
		host := testHost()
		host.Files = tt.files
		inv, err := LoadOn(host, tt.args, nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := inv.Config.Node.VBucket; got != tt.want {
			t.Errorf("%s: vbucket %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, path := range []string{missing, t.TempDir(), ""} {
		_, err := LoadOn(testHost(), []string{"--config", path}, nil)
		if errorKind(err) != valueError || !strings.HasPrefix(err.Error(), "--config: cannot read the configuration file") {
			t.Errorf("--config %q: %v", path, err)
		}
		host := testHost()
		host.Files = []string{path}
		if _, err := LoadOn(host, nil, nil); path != "" && path != missing && errorKind(err) != valueError {
			t.Errorf("usual file %q is a directory: %v", path, err)
		}
	}
	if _, err := LoadOn(testHost(), []string{"--config", missing}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cause is lost: %v", err)
	}
}

func TestActions(t *testing.T) {
	tests := []struct {
		args []string
		want Action
	}{
		{nil, Run},
		{[]string{"--check-config"}, CheckConfig},
		{[]string{"-print-config"}, PrintConfig},
		{[]string{"--check-config", "--print-config"}, PrintConfig},
		{[]string{"--version"}, ShowVersion},
		{[]string{"-h"}, ShowHelp},
		{[]string{"--help", "--version"}, ShowHelp},
		{[]string{"--version=false"}, Run},
	}
	for _, tt := range tests {
		inv, err := LoadOn(testHost(), tt.args, nil)
		if err != nil {
			t.Fatalf("%q: %v", tt.args, err)
		}
		if inv.Action != tt.want || (inv.Config == nil) != (tt.want >= ShowVersion) {
			t.Errorf("%q: action %d with config %t", tt.args, inv.Action, inv.Config != nil)
		}
	}
	if _, err := LoadOn(testHost(), []string{"--version=maybe"}, nil); errorKind(err) != valueError {
		t.Errorf("--version=maybe: %v", err)
	}
	// Help and version are what one asks for when the rest is broken.
	if _, err := LoadOn(testHost(), []string{"--help", "--config", "no-such-file"}, []string{"DKV_NONSENSE=1"}); err != nil {
		t.Errorf("--help needs a valid configuration: %v", err)
	}
}

func TestReload(t *testing.T) {
	file := write(t, "log-level: info\nmax-key-size: 1KiB\n")
	inv, err := LoadOn(testHost(), []string{"-c", file, "--db-folder", "d"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("log-level: debug\nmax-key-size: 2KiB\nverbose: true\ndb-folder: e\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	next, err := inv.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if next.LogLevel() != slog.LevelDebug || inv.Config.LogLevel() != slog.LevelInfo {
		t.Errorf("levels: new %v, running %v", next.LogLevel(), inv.Config.LogLevel())
	}
	if got := inv.Config.RestartNeeded(next); !slices.Equal(got, []string{"max-key-size"}) {
		t.Errorf("restart needed for %q", got)
	}
	if err := os.WriteFile(file, []byte("log-level: loud\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if next, err := inv.Reload(); errorKind(err) != valueError || next != nil {
		t.Errorf("a broken file reloads: %v, %v", next, err)
	}
}

func TestVerboseNeverHidesMore(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want slog.Level
	}{
		{nil, slog.LevelInfo},
		{[]string{"--log-level", "error"}, slog.LevelError},
		{[]string{"--log-level", "error", "--verbose"}, slog.LevelDebug},
		{[]string{"--log-level", "debug", "--verbose=false"}, slog.LevelDebug},
	} {
		if got := load(t, nil, tt.args...).LogLevel(); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.args, got, tt.want)
		}
	}
}

func TestLoadOnThisMachine(t *testing.T) {
	t.Chdir(t.TempDir()) // no dkvsrv.yaml here
	inv, err := Load([]string{"--config", os.DevNull}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := inv.Config
	if c.Node.Name == "" || c.Network.AdvertiseAddr == "" || c.Storage.BlockCacheSize <= 0 || c.Storage.BlockCacheSize > sizingOf(PresetStandard).cacheMost {
		t.Errorf("derived here: %+v %+v %+v", c.Node, c.Network, c.Storage)
	}
}

func TestTreesAreIndependent(t *testing.T) {
	a, b := Default(), Default()
	a.Discovery.Client.Addrs[0] = "changed:1"
	if !reflect.DeepEqual(b, Default()) {
		t.Error("two default trees share memory")
	}
}
