package deploy

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/process"
)

// nodes are the HTTP addresses of nodes by role.
type nodes map[string][]string

// startNodes starts a registry, three masters and a slave, and clients that use them
// until the test ends.
func startNodes(t *testing.T) nodes {
	t.Helper()
	dir := t.TempDir()
	addresses, err := testkit.Addresses(14)
	if err != nil {
		t.Fatal(err)
	}
	next := func() string { a := addresses[0]; addresses = addresses[1:]; return a }
	out := make(nodes)
	var started []*process.Process
	start := func(role string, args ...string) (grpcAddress string) {
		name := fmt.Sprintf("%s%d", role, len(out[role])+1)
		grpcAddress, http := next(), next()
		p, err := process.Start(process.Options{
			Program: dkvsrv, Dir: dir, Log: filepath.Join(dir, name+".log"), Env: process.Environ(),
			Args: append([]string{"--role", role, "--node-name", name, "--db-folder", filepath.Join(dir, name),
				"--listen-addr", grpcAddress, "--http-listen-addr", http}, args...),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		started = append(started, p)
		out[role] = append(out[role], http)
		return grpcAddress
	}
	urls := []string{"http://" + next(), "http://" + next(), "http://" + next(), "http://" + next()}
	registry := start("discovery", "--nexus-node-url", urls[3], "--nexus-cluster-url", urls[3])
	var masters []string
	for _, u := range urls[:3] {
		masters = append(masters, start("master", "--nexus-node-url", u, "--nexus-cluster-url", strings.Join(urls[:3], ","),
			"--discovery-service.client.discovery-service-addr", registry))
	}
	start("slave", "--discovery-service.client.discovery-service-addr", registry)
	for _, p := range started {
		if _, err := p.Await(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range masters {
		use(t, m)
	}
	lookUp(t, registry)
	return out
}

// use makes requests to a node until the test ends.
func use(t *testing.T, address string) {
	client := serverpb.NewDKVClient(dial(t, address))
	forever(t, func(ctx context.Context, i int) {
		key := fmt.Appendf(nil, "key-%d", i%100)
		_, _ = client.Put(ctx, &serverpb.PutRequest{Key: key, Value: make([]byte, 100), ExpireTS: uint64(time.Now().Add(time.Second).Unix())})
		_, _ = client.Get(ctx, &serverpb.GetRequest{Key: key, ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
	})
}

// lookUp asks a registry until the test ends.
func lookUp(t *testing.T, address string) {
	client := serverpb.NewDKVDiscoveryClient(dial(t, address))
	forever(t, func(ctx context.Context, _ int) { _, _ = client.GetClusterInfo(ctx, &serverpb.GetClusterInfoRequest{}) })
}

// forever calls f at a moderate pace until the test ends.
func forever(t *testing.T, f func(ctx context.Context, i int)) {
	t.Cleanup(testkit.Run(t, func(ctx context.Context) error {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				f(ctx, i)
			}
		}
	}))
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// prometheus is a Prometheus that runs.
type prometheus struct{ url string }

// startPrometheus starts a Prometheus with the rules in deploy that scrapes the nodes
// every second.
func startPrometheus(t *testing.T, of nodes) *prometheus {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(root, "deploy/prometheus/rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n", rules)
	for _, job := range []struct{ name, path, roles string }{{"dkv", "/metrics", "discovery master slave"}, {"dkv-cluster", "/metrics/cluster", "discovery"}} {
		config += fmt.Sprintf("  - job_name: %s\n    metrics_path: %s\n    static_configs:\n", job.name, job.path)
		for _, role := range strings.Fields(job.roles) {
			config += fmt.Sprintf("      - {labels: {role: %s}, targets: [%q]}\n", role, strings.Join(of[role], `", "`))
		}
	}
	config = strings.ReplaceAll(config, `\"`, `"`)
	file := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := testkit.Address(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t, "prometheus"), "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	p := &prometheus{url: "http://" + address}
	client := http.Client{Timeout: time.Second}
	if !testkit.Soon(func() bool {
		resp, err := client.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}) {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("Prometheus does not start: %s", text)
	}
	return p
}
