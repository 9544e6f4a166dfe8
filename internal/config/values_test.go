package config

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

// Every value that is written into a key, and what becomes of it: the text it
// is kept as, or a part of the error.
func TestValues(t *testing.T) {
	tests := []struct{ key, text, want, wrong string }{
		{"role", "standalone", "none", ""},
		{"role", "master", "master", ""},
		{"role", "Master", "", `"Master" is not known: write one of none, master, slave, discovery`},
		{"role", "", "", "write one of"},
		{"diskless", "true", "true", ""},
		{"diskless", "1", "true", ""},
		{"diskless", "yes", "", `"yes" is not a boolean: write true or false`},
		{"vbuckets", "64", "64", ""},
		{"vbuckets", "0", "", "out of range: write a number from 1 to 1024"},
		{"vbuckets", "1025", "", "out of range"},
		{"vbuckets", "99999999999999999999", "", "out of range"},
		{"vbuckets", "many", "", `"many" is not a whole number`},
		{"vbuckets", "1.5", "", "not a whole number"},
		{"repl-poll-interval", "5", "5s", ""},
		{"repl-poll-interval", "0.5", "500ms", ""},
		{"repl-poll-interval", "1h30m", "1h30m", ""},
		{"repl-poll-interval", "3600", "1h", ""},
		{"repl-poll-interval", "-5", "", `"-5" is negative: write a duration of 1ms or more`},
		{"repl-poll-interval", "-1ms", "", "negative"},
		{"repl-poll-interval", "0", "", "too short"},
		{"repl-poll-interval", "1us", "", "too short"},
		{"repl-poll-interval", "5 seconds", "", "not a duration: write seconds such as 5"},
		{"repl-poll-interval", "1h5", "", "not a duration"},
		{"repl-poll-interval", ".", "", "not a duration"},
		{"repl-poll-interval", "", "", "not a duration"},
		{"repl-poll-interval", "1e99", "", "not a duration"},
		{"drain-timeout", "0", "0s", ""},
		{"max-value-size", "1048576", "1MiB", ""},
		{"max-value-size", "2 mib", "2MiB", ""},
		{"max-value-size", "1MB", "1000000", ""},
		{"max-value-size", "0", "", "out of range: write a size from 1 to 1GiB"},
		{"max-value-size", "-1", "", "negative"},
		{"max-value-size", "lots", "", `"lots" is not a size`},
		{"max-value-size", "99999999TiB", "", "is too large"},
		{"max-value-size", "99999999999999999999", "", "is too large"},
		{"block-cache-size", "0", "0", ""},
		{"listen-addr", ":8080", ":8080", ""},
		{"listen-addr", "[::1]:0", "[::1]:0", ""},
		{"listen-addr", " localhost:1 ", "localhost:1", ""},
		{"listen-addr", "8080", "", `"8080" is not an address: write host:port`},
		{"listen-addr", "::1:8080", "", "not an address"},
		{"listen-addr", "host:http", "", "no valid port"},
		{"listen-addr", "host:65536", "", "no valid port"},
		{"listen-addr", "host:-1", "", "no valid port"},
		{"listen-addr", "a b:1", "", "no valid host"},
		{"listen-addr", "-a:1", "", "no valid host"},
		{"listen-addr", "a..b:1", "", "no valid host"},
		{"listen-addr", "", "", "not an address"},
		{"repl-master-addr", "", "", ""},
		{"repl-master-addr", "db-1.example:8080", "db-1.example:8080", ""},
		{"repl-master-addr", "0.0.0.0:8080", "", "cannot be connected to"},
		{"repl-master-addr", "host:0", "", "cannot be connected to"},
		{"repl-master-addr", ":1", "", "no valid host"},
		{"nexus-node-url", "http://127.0.0.1:9021", "http://127.0.0.1:9021", ""},
		{"nexus-node-url", "HTTPS://[::1]:9021/", "https://[::1]:9021", ""},
		{"nexus-node-url", "127.0.0.1:9021", "", "is not a URL: write http://host:port"},
		{"nexus-node-url", "ftp://h:1", "", "is not a URL"},
		{"nexus-node-url", "http://h", "", "not an address"},
		{"nexus-node-url", "http://h:1/path", "", "more than a host and a port: write http://h:1"},
		{"nexus-node-url", "http://h:1?q", "", "more than a host and a port"},
		{"nexus-node-url", "http://user:secret@h:1", "", "contains a user name or password"},
		{"nexus-cluster-url", "http://a:1, http://b:1", "http://a:1,http://b:1", ""},
		{"nexus-cluster-url", "", "", ""},
		{"nexus-cluster-url", "http://a:1,", "", "is not a URL"},
		{"nexus-cluster-url", "http://a:1,http://a:1/", "", "there twice"},
		{"discovery-service.client.discovery-service-addr", "a:1,b:2", "multi:///a:1,b:2", ""},
		{"discovery-service.client.discovery-service-addr", "multi:///a:1", "multi:///a:1", ""},
		{"discovery-service.client.discovery-service-addr", "dns:///a:1", "", "not an address"},
		{"discovery-service.client.discovery-service-addr", "", "", "names no address"},
		{"dc-id", "eu-1", "eu-1", ""},
		{"dc-id", "", "", "the name is empty"},
		{"dc-id", "a/b", "", "is not a name"},
		{"dc-id", "..", "", "is not a name"},
		{"dc-id", "a\nb", "", "is not a name"},
		{"dc-id", "\xff", "", "is not a name"},
		{"dc-id", strings.Repeat("x", 256), "", "256 bytes long"},
		{"db-folder", "a b/c", "a b/c", ""},
		{"db-folder", "a\x00b", "", "control characters"},
		{"root-folder", "", "", "the path is empty"},
		{"log-level", "warn", "warn", ""},
		{"log-level", "fatal", "", "write one of debug, info, warn, error"},
		{"tls-min-version", "1.3", "1.3", ""},
		{"tls-min-version", "1.0", "", "write one of 1.2, 1.3"},
	}
	table := newTable()
	for _, tt := range tests {
		k := table.byName[tt.key]
		if k == nil {
			t.Fatalf("no key %s", tt.key)
		}
		v := k.field(Default())
		before := v.text()
		err := v.set(tt.text)
		switch {
		case tt.wrong == "" && (err != nil || v.text() != tt.want):
			t.Errorf("%s %q: %q, %v; want %q", tt.key, tt.text, v.text(), err, tt.want)
		case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%s %q: error %v, want %q", tt.key, tt.text, err, tt.wrong)
		case tt.wrong != "" && v.text() != before:
			t.Errorf("%s %q is refused and stored: %q", tt.key, tt.text, v.text())
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("%s %q: more than one line: %v", tt.key, tt.text, err)
		}
	}
}

func TestSizesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := Size(rapid.Int64Range(0, math.MaxInt64).Draw(t, "size"))
		if rapid.Bool().Draw(t, "round") {
			size = size >> 40 << 40
		}
		if back, err := ParseSize(size.String()); err != nil || back != size {
			t.Fatalf("%d is written %q and read %d, %v", size, size, back, err)
		}
	})
}

func TestDurationsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Min(0).Draw(t, "d"))
		if rapid.Bool().Draw(t, "round") {
			d = d.Truncate(time.Minute)
		}
		if back, err := parseDuration(formatDuration(d)); err != nil || back != d {
			t.Fatalf("%d is written %q and read %d, %v", d, formatDuration(d), back, err)
		}
	})
	for d, want := range map[time.Duration]string{
		0: "0s", 90 * time.Minute: "1h30m", 24 * time.Hour: "24h", 10 * time.Second: "10s", 70 * time.Second: "1m10s", time.Hour + time.Second: "1h0m1s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}

// A tree filled by code is held to the same rules as one filled by users.
func TestValidateTreesFilledByCode(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"unknown role":      func(c *Config) { c.Role = "king" },
		"unknown level":     func(c *Config) { c.Log.Level = slog.Level(3) },
		"negative interval": func(c *Config) { c.Replication.PollInterval = -1 },
		"no address":        func(c *Config) { c.Network.ListenAddr = "" },
		"no size":           func(c *Config) { c.Limits.KeySize = 0 },
		"no registry":       func(c *Config) { c.Discovery.Client.Addrs = nil },
	} {
		c := complete(t)
		change(c)
		if err := c.Validate(); errorKind(err) != valueError {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := complete(t).Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if err := Default().Validate(); errorKind(err) != valueError {
		t.Errorf("a tree that is not complete: %v", err)
	}
}
