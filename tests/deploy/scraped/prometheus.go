package scraped

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
)

// Prometheus is a Prometheus that runs.
type Prometheus struct{ url string }

// Rules are the rules in deploy.
func Rules(t testing.TB) string {
	t.Helper()
	rules, err := filepath.Abs(filepath.Join(Root(t), "deploy/prometheus/rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// Start starts a Prometheus with a file of rules that scrapes the nodes every
// second.
func Start(t testing.TB, rules string, of Cluster) *Prometheus {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n", rules)
	for _, job := range []struct{ name, path, roles string }{{"dkv", "/metrics", "discovery master slave none"}, {"dkv-cluster", "/metrics/cluster", "discovery"}} {
		config += fmt.Sprintf("  - job_name: %s\n    metrics_path: %s\n    static_configs:\n", job.name, job.path)
		for role, nodes := range of {
			for _, n := range nodes {
				if strings.Contains(job.roles, role) {
					config += fmt.Sprintf("      - {labels: {role: %s}, targets: [%q]}\n", role, n.HTTP)
				}
			}
		}
	}
	file := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := testkit.Address(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Program(t, "prometheus"), "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address)
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
	p := &Prometheus{url: "http://" + address}
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

// Query returns how many series a query has now.
func (p *Prometheus) Query(expr string) (int, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct{ Result []any }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("%s", answer.Error)
	}
	return len(answer.Data.Result), nil
}

// Root is the project's folder.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err = os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir, err = parent, nil
		}
	}
	t.Fatalf("the project's folder is not above: %v", err)
	return ""
}

// Program finds one of Prometheus' programs.
func Program(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path, err := filepath.Abs(filepath.Join(Root(t), "build/prometheus/usr/bin", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%s is neither on the PATH nor unpacked (%v): run make test-deps", name, err)
	}
	return path
}
