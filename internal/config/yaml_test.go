package config

import (
	"strings"
	"testing"
	"time"
)

func TestYAML(t *testing.T) {
	c := load(t, nil, "-c", write(t, `
# a comment
role: "slave"
vbucket: 7                 # a number is accepted as a name
repl-poll-interval: 5
max-value-size: 1048576
diskless: true
db-engine: badger
nexus-cluster-url:
  - http://127.0.0.1:9021
  - http://127.0.0.1:9022
discovery-service:
  server:
    status-ttl: 300
  client:
    discovery-service-addr: [a:1, "b:2"]
    push-status-interval: 1.5
discovery-service.server.heartbeat-timeout: 60
access-log: ""
`))
	if c.Role != RoleSlave || c.Node.VBucket != "7" || c.Replication.PollInterval != 5*time.Second || c.Limits.ValueSize != MiB || !c.Storage.Diskless {
		t.Errorf("top level: %+v", c)
	}
	if strings.Join(c.Nexus.ClusterURLs, " ") != "http://127.0.0.1:9021 http://127.0.0.1:9022" {
		t.Errorf("nexus-cluster-url %q", c.Nexus.ClusterURLs)
	}
	d := c.Discovery
	if d.Server.StatusTTL != 5*time.Minute || d.Server.HeartbeatTimeout != time.Minute || d.Client.PushStatusInterval != 1500*time.Millisecond ||
		strings.Join(d.Client.Addrs, " ") != "a:1 b:2" {
		t.Errorf("nested: %+v", d)
	}
	if got := c.Origin("discovery-service.client.push-status-interval").Line; got != 17 {
		t.Errorf("push-status-interval is said to be in line %d", got)
	}
}

func TestYAMLWithoutKeys(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "null\n", "{}\n", "discovery-service:\n", "discovery-service:\n  client:\n"} {
		settings, err := parseYAML(newTable(), "f", []byte(text))
		if err != nil || len(settings) != 0 {
			t.Errorf("%q: %v, %v", text, settings, err)
		}
	}
}

func TestYAMLErrors(t *testing.T) {
	tests := []struct {
		text string
		kind int
		want string // after the file's name
	}{
		{"rol: x\n", usageError, ":1: unknown key rol; did you mean role?"},
		{"\n\nlisten_addr: x\n", usageError, ":3: unknown key listen_addr; did you mean listen-addr?"},
		{"xyzzy: x\n", usageError, ":1: unknown key xyzzy; dkvsrv --help lists all keys"},
		{"discovery-service:\n  client:\n    push-interval: 1\n", usageError, ":3: unknown key discovery-service.client.push-interval; did you mean discovery-service.client.push-status-interval?"},
		{"discovery-service:\n  server-config:\n    status-ttl: 1\n", usageError, ":2: unknown key discovery-service.server-config; did you mean discovery-service.server?"},
		{"status-ttl: 1\n", usageError, ":1: unknown key status-ttl; did you mean discovery-service.server.status-ttl?"},
		{"Role: none\n", usageError, ":1: unknown key Role; did you mean role?"},
		{"\"a\\nb\": x\n", usageError, ":1: unknown key \"a\\nb\"; dkvsrv --help lists all keys"},
		{"<<: {role: none}\n", usageError, ":1: unknown key <<; dkvsrv --help lists all keys"},
		{"role: none\nrole: master\n", usageError, ":2: role is already set in line 1: keep one of the two"},
		{"discovery-service:\n  server: {}\ndiscovery-service:\n  client: {}\n", usageError, ":3: discovery-service is already set in line 1: keep one of the two"},
		{"discovery-service.server.status-ttl: 1\ndiscovery-service: {server: {status-ttl: 2}}\n", usageError, ":2: discovery-service.server.status-ttl is already set in line 1: keep one of the two"},
		{"discovery-service: 5\n", usageError, ":1: discovery-service holds keys, not a single value: write lines of the form key: value"},
		{"discovery-service: [a]\n", usageError, ":1: discovery-service holds keys, not a list: write lines of the form key: value"},
		{"- role\n", usageError, ":1: the file holds keys, not a list: write lines of the form key: value"},
		{"role\n", usageError, ":1: the file holds keys, not a single value: write lines of the form key: value"},
		{"role: {a: b}\n", usageError, ":1: role takes one value, not a map"},
		{"role: [none]\n", usageError, ":1: role takes one value, not a list"},
		{"node-name: &n x\nvbucket: *n\n", usageError, ":2: vbucket takes one value, not a reference to an anchor"},
		{"nexus-cluster-url: [[a]]\n", usageError, ":1: an element of nexus-cluster-url is a list: write plain values"},
		{"nexus-cluster-url: [~]\n", usageError, `:1: nexus-cluster-url has no value: write one ("" is the empty one) or comment the line out`},
		{"? [a]\n: b\n", usageError, ":1: a list cannot be a key: write a name from dkvsrv --help"},
		{"role:\nvbucket: x\n", usageError, `:1: role has no value: write one ("" is the empty one) or comment the line out`},
		{"role: !!binary bm9uZQ==\n", usageError, ":1: role has the tag !!binary: write a plain value"},
		{"role: none\n---\nrole: master\n", usageError, ":2: a second document begins here: keep one, the rest would be ignored"},
		{"role: king\n", valueError, `:1: role: "king" is not known: write one of none, master, slave, discovery`},
		{"vbucket: a\nrepl-poll-interval: -5s\n", valueError, `:2: repl-poll-interval: "-5s" is negative: write a duration of 1ms or more`},
		{"diskless: yes\n", valueError, `:1: diskless: "yes" is not a boolean: write true or false`},
		{"nexus-cluster-url: [x]\n", valueError, `:1: nexus-cluster-url: "x" is not a URL: write http://host:port`},
		{"role: [none\n", valueError, " is not valid YAML: line 1: did not find expected ',' or ']'"},
		{"role: none\n---\n[\n", valueError, " is not valid YAML: line 3: did not find expected node content"},
		{"a: b: c\n", valueError, " is not valid YAML: mapping values are not allowed in this context"},
		{"\x00", valueError, " is not valid YAML: control characters are not allowed"},
	}
	for _, tt := range tests {
		file := write(t, tt.text)
		_, err := LoadOn(testHost(), []string{"-c", file}, nil)
		if errorKind(err) != tt.kind {
			t.Errorf("%q: %v is of kind %d, want %d", tt.text, err, errorKind(err), tt.kind)
			continue
		}
		if got := strings.TrimPrefix(err.Error(), file); got != tt.want {
			t.Errorf("%q:\n got %s\nwant %s", tt.text, got, tt.want)
		}
	}
}
