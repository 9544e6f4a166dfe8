package config

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCombinationsThatCannotBe(t *testing.T) {
	const registry = " --discovery-service.client.discovery-service-addr r:1"
	tests := []struct {
		args string
		want string // the whole of the beginning of the error
	}{
		{"--role master --db-engine badger", "--db-engine: a master cannot run on badger: use --db-engine rocksdb"},
		{"--diskless", "--diskless: rocksdb cannot work without a disk: use --db-engine badger, or drop --diskless"},
		{"--diskless --db-engine badger --role discovery", "--diskless: a node of role discovery must keep its data on disk: drop --diskless"},
		{"--row-cache-size 1023KiB", "--row-cache-size: 1023KiB is too small to be of use: write at least 1MiB, or 0 for none"},
		{"--row-cache-size 9MiB --block-cache-size 16MiB", "--row-cache-size: 9MiB is more than half of block-cache-size 16MiB, of which it is a part: lower it, or raise block-cache-size"},
		{"--vbuckets 3", "--vbuckets: 3 is not a power of two"},
		{"--nexus-entry-store memory", "--nexus-entry-store: the Raft log must survive a crash and cannot be kept in memory: write disk"},
		{"--tls-cert-file c.pem", "tls-key-file: it is not set, and TLS needs it since tls-cert-file is set: name the PEM file of its private key"},
		{"--tls-cert-file c.pem --tls-key-file k.pem", "tls-ca-file: it is not set, and TLS needs it since tls-cert-file is set"},
		{"--tls-key-file k.pem", "--tls-key-file: it has no effect without tls-cert-file"},
		{"--tls-ca-file a.pem", "--tls-ca-file: it has no effect without tls-cert-file"},
		{"--tls-mode permissive", "tls-cert-file: it is not set, and tls-mode permissive needs it"},
		{"--tls-mode on", `--tls-mode: "on" is not known: write one of off, permissive, required`},
		{"--tls-node-name *.example", `--tls-node-name: "*.example" is not a DNS name`},
		{"--tls-min-version 1.1", `--tls-min-version: "1.1" is not known: write one of 1.2, 1.3`},
		{"--auth-file a --tls-mode permissive --tls-cert-file c --tls-key-file k --tls-ca-file a", "--auth-file: tokens would cross the network in the clear, since tls-mode is permissive"},
		{"--repl-ack most", `--repl-ack: "most" is not known: write one of async, semi_sync, sync`},
		{"--repl-ack-from west", `--repl-ack-from: "west" is not a choice of slaves: write any, or dc=NAME`},
		{"--repl-ack-from dc=", "--repl-ack-from: "},
		{"--repl-ack-fallback wait", `--repl-ack-fallback: "wait" is not known: write one of refuse, async`},
		{"--nexus-snapshot-interval 10ms", "--nexus-snapshot-interval: 10ms is too short, since each snapshot syncs the engine: write at least 1s, or 0 for none by time"},
		{"--auto-promote-after 1s --repl-ack sync" + registry, "--auto-promote-after: 1s is too short to notice reliably that a master is lost: write at least 2s"},
		{"--auto-promote-after 25h --repl-ack sync" + registry, "--auto-promote-after: 25h is too long"},
		{"--auto-promote-after 5s --repl-ack sync", "--auto-promote-after: the registry decides which node is the master: set discovery-service.client.discovery-service-addr"},
		{"--auto-promote-after 5s --repl-ack sync --disable-discovery-client" + registry, "--auto-promote-after: the registry decides which node is the master, and disable-discovery-client is set"},
		{"--auto-promote-after 5s --repl-ack sync --diskless --db-engine badger" + registry, "--auto-promote-after: a node without a disk forgets at a restart"},
		{"--auto-promote-after 5s --repl-ack sync --role slave --vbuckets 2 --db-engine badger" + registry, "--auto-promote-after: a slave of 2 vBuckets becomes a master that keeps logs by Raft, which cannot run on badger: use --db-engine rocksdb"},
		{"--auto-promote-after 5s" + registry, "--auto-promote-after: with repl-ack async no slave is known to have what was acknowledged"},
		{"--trace-endpoint http://otel:4317", "--trace-endpoint: "},
		{"--trace-endpoint otel", "--trace-endpoint: "},
		{"--trace-endpoint https://otel/v1", "--trace-endpoint: "},
		{"--trace-endpoint https://otel:4317/v1?x=y", "--trace-endpoint: "},
		{"--trace-sample 1.1", "--trace-sample: \"1.1\" is not a share: write a number from 0 to 1"},
		{"--trace-sample NaN", "--trace-sample: \"NaN\" is not a share"},
		{"--access-log /var/log/dkv.log --audit-log /var/log/../log/dkv.log", "--access-log: /var/log/dkv.log is the file of audit-log as well"},
		{"--access-log /var/log/x/../dkv.log --audit-log /var/log/dkv.log.1", "--audit-log: /var/log/dkv.log.1 is the name of an earlier file of access-log"},
		{"--access-log dkv.log.4 --audit-log dkv.log", "--access-log: dkv.log.4 is the name of an earlier file of audit-log"},
		{"--db-folder=~/dkv", `--db-folder: "~/dkv" begins with ~`},
		{"--auth-file=~/auth.yaml", `--auth-file: "~/auth.yaml" begins with ~`},
		{"--auth-file a", "--auth-file: tokens would cross the network in the clear, since tls-mode is off: set tls-mode to required"},
		{"--auth-file a --listen-addr 127.0.0.1:1", "--auth-file: tokens would cross the network in the clear"},
		{"--auth-file a --listen-addr :1 --http-listen-addr [::1]:2", "--auth-file: tokens would cross the network in the clear"},
		{"--auth-file a --listen-addr 127.0.0.1:1 --http-listen-addr [::1]:2 --role master", "--auth-file: tokens would cross the network in the clear"},
		{"--advertise-addr 127.0.0.1:0", `--advertise-addr: "127.0.0.1:0" cannot be connected to`},
		{"--advertise-addr 0.0.0.0:8080", `--advertise-addr: "0.0.0.0:8080" cannot be connected to`},
		{"--advertise-addr :8080", `--advertise-addr: ":8080" has no valid host`},
		{"--listen-addr 127.0.0.1:9000 --http-listen-addr 127.0.0.1:9000", "--http-listen-addr: 127.0.0.1:9000 overlaps listen-addr 127.0.0.1:9000"},
		{"--listen-addr :9000 --http-listen-addr 127.0.0.1:9000", "--http-listen-addr: 127.0.0.1:9000 overlaps listen-addr :9000"},
		{"--db-folder d --backup-dir d", `--backup-dir: "d" contains db-folder "d"`},
		{"--db-folder d/n1 --backup-dir /", `--backup-dir: "/" contains db-folder "d/n1"`},
		{"--db-folder /var/lib/x/n1 --backup-dir /var", `--backup-dir: "/var" contains db-folder`},
		{"--db-folder d/n1 --backup-dir ./d", `--backup-dir: "./d" contains db-folder "d/n1"`},
		{"--db-folder d --backup-dir d/vbucket-default/b", `--backup-dir: "d/vbucket-default/b" holds a vBucket's data`},
		{"--role master --nexus-node-url http://h:1 --nexus-cluster-url http://h:1 --db-folder d --nexus-log-dir ./d", `--nexus-log-dir: "./d" is db-folder itself`},
		{"--role master --nexus-node-url http://h:1 --nexus-cluster-url http://h:1 --db-folder d --nexus-log-dir d/vbucket-3", `--nexus-log-dir: "d/vbucket-3" holds a vBucket's data`},
		{"--db-engine badger --db-engine-ini o.ini", "--db-engine-ini: raw engine options are RocksDB's, and db-engine is badger"},
		{"--max-memory-in-flight 8MiB", "--max-memory-in-flight: 8MiB is less than one message of max-message-size 16MiB"},
		{"--db-engine badger --max-key-size 64KiB", "--max-key-size: 64KiB is more than the 63KiB that db-engine badger can store: lower it, or use --db-engine rocksdb"},
		{"--max-value-size 8MiB", "max-batch-size: 8MiB cannot hold one pair of max-key-size 1KiB and max-value-size 8MiB"},
		{"--max-batch-size 16MiB", "max-message-size: 16MiB leaves no room around max-batch-size 16MiB"},
		{"--discovery-service.server.status-ttl 30s", "discovery-service.server.heartbeat-timeout: 1m is longer than status-ttl 30s"},
		{"--role slave --disable-discovery-client", "--disable-discovery-client: a slave without discovery cannot find its master"},
		{"--raft-election-rtt 4", "--raft-election-rtt: 4 would start an election after one late heartbeat"},
		{"--lease-duration 61m --raft-rtt 2m --nexus-repl-timeout 5m", "--lease-duration: 1h1m is longer than the 1h that the log can record"},
		{"--lease-duration 1s", "--lease-duration: 1s is not below the election timeout, 1s"},
		{"--audit-required", "--audit-required: there is no file that administrative calls could be required to be in"},
		{"--raft-profile wan --nexus-repl-timeout 50ms", "--nexus-repl-timeout: 50ms is shorter than twice raft-rtt 100ms"},
	}
	for _, tt := range tests {
		_, err := LoadOn(testHost(), strings.Fields(tt.args), nil)
		if errorKind(err) != valueError || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s:\n got %v\nwant %s...", tt.args, err, tt.want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %v", tt.args, err)
		}
	}
}

func TestCombinationsThatWork(t *testing.T) {
	for _, args := range []string{
		"--diskless --db-engine badger",
		"--diskless --db-engine badger --role slave",
		"--role discovery",
		"--vbuckets 1024",
		"--tls-min-version 1.2",
		"--tls-cert-file c --tls-key-file k --tls-ca-file a",
		"--tls-mode permissive --tls-cert-file c --tls-key-file k --tls-ca-file a --role master",
		"--tls-mode off --tls-cert-file c --tls-key-file k", // it will be turned on later
		"--auth-file a --tls-cert-file c --tls-key-file k --tls-ca-file a --role master",
		"--listen-addr 127.0.0.1:0 --http-listen-addr 127.0.0.1:0",
		"--listen-addr 127.0.0.1:9000 --http-listen-addr 127.0.0.2:9000",
		"--auth-file a --listen-addr 127.0.0.1:1 --http-listen-addr [::1]:2",
		"--auth-file a --listen-addr localhost:1 --http-listen-addr localhost:2",
		"--listen-addr 0.0.0.0:8081", // the HTTP port gives way
		"--db-folder d --backup-dir d/b",
		"--db-folder d --backup-dir ../b",
		"--db-folder d --backup-dir ~backups",
		"--max-value-size 100MiB --max-batch-size 200MiB --max-message-size 256MiB",
		"--role slave --disable-discovery-client --repl-master-addr 127.0.0.1:9081",
		"--access-log dkv.log --audit-log dkv.log.5",
		"--access-log dkv.log --audit-log dkv.log.01",
		"--access-log dkv.log --access-log-size 0 --audit-log dkv.log.1",
	} {
		if _, err := LoadOn(testHost(), strings.Fields(args), nil); err != nil {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestNotices(t *testing.T) {
	tests := []struct {
		args string
		want []string
	}{
		{"", nil},
		{"--nexus-join=false --repl-mode poll", nil}, // the defaults
		{"--nexus-node-url http://h:1", []string{"nexus-node-url (--nexus-node-url) has no effect: this node has role none, and the key is for role master, discovery, slave"}},
		{"--repl-master-addr h:1", []string{"repl-master-addr (--repl-master-addr) has no effect: this node has role none, and the key is for role slave"}},
		{"--repl-master-addr h:1 --role slave", nil},
		{"--nexus-max-wals 7 --role master", []string{"nexus-max-wals (--nexus-max-wals) has no effect: it is accepted from old files only"}},
		{"--raft-rtt 50ms", []string{"raft-rtt (--raft-rtt) has no effect: this node has role none, and the key is for role master, discovery, slave"}},
		{"--db-engine badger --write-buffer-size 1MiB", []string{"write-buffer-size (--write-buffer-size) has no effect: badger sizes its write buffers by itself"}},
		{"--pprof --max-streams 7 --db-folder d", nil},
		{"--max-value-size 62MiB --max-batch-size 63MiB --max-message-size 70MiB --role master", nil},
		{"--max-value-size 63MiB --max-batch-size 64MiB --max-message-size 70MiB", nil},
		{"--max-value-size 63MiB --max-batch-size 64MiB --max-message-size 70MiB --role master", []string{"max-batch-size is 64MiB, but masters reject requests of 64MiB and more, " +
			"and of 32MiB and more on a host with fewer than 8 cores or less than 32GiB of memory"}},
		{"--db-engine badger --max-value-size 5631KiB", nil},
		{"--db-engine badger --max-value-size 5632KiB", []string{"max-value-size is 5632KiB, but a standalone node with badger rejects requests of 5632KiB and more: lower it, or use --db-engine rocksdb"}},
		{"--db-engine badger --max-value-size 5632KiB --role slave", nil},
		{"--role master --db-folder d/n1 --nexus-log-dir ./d", []string{"db-folder (d/n1) is in nexus-log-dir (./d): give the Raft log a folder that nothing else is in"}},
		{"--role master --nexus-log-dir w --backup-dir w/b", []string{"backup-dir (w/b) is in nexus-log-dir (w): give each of the two a folder that nothing else is in"}},
		{"--role slave --nexus-log-dir w --backup-dir w", []string{"backup-dir (w) is in nexus-log-dir (w): give each of the two a folder that nothing else is in"}},
		{"--role master --db-folder d --backup-dir d/nexus/b", []string{"backup-dir (d/nexus/b) is in d/nexus, which is for Raft logs: give it a folder that nothing else is in"}},
		{"--role master --nexus-log-dir w/log --backup-dir w", nil},
		{"--db-folder d --backup-dir d/nexus/b", nil},
		{"--repl-mode stream", []string{"repl-mode (--repl-mode) has no effect: this node has role none, and the key is for role slave"}},
	}
	for _, tt := range tests {
		got := load(t, nil, strings.Fields(tt.args)...).Notices()
		if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
			t.Errorf("%s:\n got %q\nwant %q", tt.args, got, tt.want)
		}
	}
}

// A folder is needed on the way to another one also if only a link in it leads there.
func TestLeadsThrough(t *testing.T) {
	root := t.TempDir()
	at := func(path string) string { return filepath.Join(root, path) }
	for _, path := range []string{"log", "disk/db"} {
		if err := os.MkdirAll(at(path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"log/x": at("disk"), "log/up": "../disk/db", "chain": "log/x", "name": "log", "round": "round", "lost": "log/nowhere",
	} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]bool{
		"log": true, "log/a": true, "log/x": true, "log/x/db": true, "log/x/db/a/b": true, "log/up": true, "chain/db": true, "name/x/db": true, "lost": true,
		"disk/db": false, "log2": false, "round/a": false, "": false,
	} {
		if got := LeadsThrough(at("log"), at(path)); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if !LeadsThrough(at("name"), at("chain/db")) {
		t.Error("a folder is not known by the name of a link to it")
	}
}

func TestAdvertise(t *testing.T) {
	tests := []struct{ args, want string }{
		{"--listen-addr 127.0.0.1:9081", "127.0.0.1:9081"},
		{"--listen-addr 127.0.0.1:0", "127.0.0.1:7777"},
		{"--listen-addr 0.0.0.0:0", "192.0.2.7:7777"},
		{"--listen-addr :9081", "192.0.2.7:9081"},
		{"--listen-addr [::1]:0", "[::1]:7777"},
		{"--listen-addr 127.0.0.1:0 --advertise-addr db.example:80", "db.example:80"},
	}
	for _, tt := range tests {
		c := load(t, nil, strings.Fields(tt.args)...)
		if got := c.Advertise(&net.TCPAddr{IP: net.IPv4zero, Port: 7777}); got != tt.want {
			t.Errorf("%s: advertised %s, want %s", tt.args, got, tt.want)
		}
	}
	if got := load(t, nil, "--listen-addr", "127.0.0.1:0").Advertise(&net.UnixAddr{}); got != "127.0.0.1:0" {
		t.Errorf("an address without a port: %s", got)
	}
}
