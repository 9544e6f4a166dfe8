package app

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMainServesUntilToldToStop runs whole nodes in this process. Every goroutine that
// they start has to have ended when they return.
func TestMainServesUntilToldToStop(t *testing.T) {
	for _, engine := range [][]string{
		{"--db-engine", "rocksdb"},
		{"--db-engine", "badger"},
		{"--db-engine", "badger", "--diskless"},
	} {
		t.Run(strings.Join(engine, " "), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			log := newWatchedLog()
			code := make(chan int, 1)
			dir := t.TempDir()
			go func() {
				code <- Main(ctx, Process{
					Args: append([]string{
						"--listen-addr", "127.0.0.1:0", "--http-listen-addr", "127.0.0.1:0",
						"--db-folder", filepath.Join(dir, "db"), "--audit-log", filepath.Join(dir, "audit.log"),
					}, engine...),
					Stdout: log, Stderr: log,
				})
			}()
			http := log.waitFor(t, regexp.MustCompile(`http=(\S+)`))
			for _, path := range []string{"/health/quick", "/health", "/readyz", "/livez", "/metrics", "/admin/cluster/status"} {
				get(t, "http://"+http+path)
			}
			cancel()
			if c := <-code; c != exitOK {
				t.Errorf("exit code %d; the log:\n%s", c, log)
			}
		})
	}
}

// get returns what a path answers, which must be OK.
func get(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, %v", url, resp.Status, err)
	}
	return string(body)
}

// watchedLog is a log that a test can wait on.
type watchedLog struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{}
}

func newWatchedLog() *watchedLog { return &watchedLog{grown: make(chan struct{}, 1)} }

func (l *watchedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.grown <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *watchedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// waitFor returns the first group of the first match.
func (l *watchedLog) waitFor(t testing.TB, re *regexp.Regexp) string {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		if m := re.FindStringSubmatch(l.String()); m != nil {
			return m[1]
		}
		select {
		case <-l.grown:
		case <-deadline:
			t.Fatalf("nothing matches %v in the log:\n%s", re, l)
		}
	}
}

// TestFailedStartReleasesEverything: what was opened before the failure is closed, so that
// the next start in the same process fails with the same error.
func TestFailedStartReleasesEverything(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"http taken", []string{"--http-listen-addr", taken.Addr().String()}, "is taken"},
		{"vbuckets", []string{"--vbuckets", "4"}, "one vBucket"},
		{"audit log", []string{"--audit-log", filepath.Join(t.TempDir(), "nosuch", "audit.log")}, "audit-log"},
		{"ini", []string{"--db-engine-ini", filepath.Join(t.TempDir(), "nosuch.ini")}, "nosuch.ini"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"--listen-addr", "127.0.0.1:0", "--http-listen-addr", "127.0.0.1:0", "--db-folder", t.TempDir()}, c.args...)
			if c.name == "http taken" {
				args = append(args[:2], args[4:]...) // a flag may stand once
			}
			for range 2 {
				var out bytes.Buffer
				if code := Main(t.Context(), Process{Args: args, Stdout: &out, Stderr: &out}); code != exitError {
					t.Errorf("exit code %d", code)
				}
				if text := out.String(); !strings.Contains(text, c.want) || strings.Count(text, "\n") != 1 {
					t.Errorf("not one line with %q: %s", c.want, text)
				}
			}
		})
	}
}

// serve runs a node in this process until the test ends, and returns where it
// serves.
func serve(t *testing.T, args ...string) (grpc, http string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := newWatchedLog()
	done := make(chan struct{})
	args = append([]string{"--listen-addr", "127.0.0.1:0", "--http-listen-addr", "127.0.0.1:0",
		"--db-folder", filepath.Join(t.TempDir(), "db")}, args...)
	go func() {
		defer close(done)
		if code := Main(ctx, Process{Args: args, Stdout: log, Stderr: log}); code != exitOK {
			t.Errorf("%q: exit code %d; the log:\n%s", args, code, log)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	http = log.waitFor(t, regexp.MustCompile(`http=(\S+)`))
	return log.waitFor(t, regexp.MustCompile(`grpc=(\S+)`)), http
}

// TestMetricsAreConventional: the metrics of every role keep to Prometheus' conventions: a counter ends in
// _total, each family has a help text, units are base units.
func TestMetricsAreConventional(t *testing.T) {
	master, masterHTTP := serve(t, "--role", "master", "--nexus-node-url", "http://"+testkit.Address(t), "--disable-discovery-client")
	_, standaloneHTTP := serve(t)
	_, slaveHTTP := serve(t, "--role", "slave", "--repl-master-addr", master, "--disable-discovery-client")
	_, registryHTTP := serve(t, "--role", "discovery")
	for name, url := range map[string]string{
		"master": masterHTTP + "/metrics", "standalone": standaloneHTTP + "/metrics", "slave": slaveHTTP + "/metrics",
		"registry": registryHTTP + "/metrics", "cluster": registryHTTP + "/metrics/cluster",
	} {
		text := get(t, "http://"+url)
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if strings.HasPrefix(p.Metric, "dkv_") {
				t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
			}
		}
		if raft := strings.Contains(text, "\ndkv_raft_"); raft != (name == "master") {
			t.Errorf("%s has metrics of Raft: %t", name, raft)
		}
	}
}
