package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/tests/deploy/scraped"
)

// The dashboards are those that tools/dashboards writes.
func TestDashboardsAreCurrent(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("go", "run", "./tools/dashboards", dir)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	written, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(written) < 5 {
		t.Fatalf("%d dashboards, %v", len(written), err)
	}
	for _, path := range written {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(root, "deploy/grafana", filepath.Base(path))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("deploy/grafana/%s is not what tools/dashboards writes (%v): go run ./tools/dashboards deploy/grafana", filepath.Base(path), err)
		}
	}
}

// mayBeEmpty are parts of rules that have no series on these nodes: nothing is wrong with
// them, and they have neither TLS nor identities.
var mayBeEmpty = []string{"dkv:errors:rate5m", `code=~"Unavailable|`, "dkv_tls_", "dkv_auth_"}

// tried is a query, and whether it may have no result.
type tried struct {
	expr     string
	mayEmpty bool
}

// threshold is what an alert compares a value with, which is there whether it fires or not.
var threshold = regexp.MustCompile(` (==|<|>) [^()]*$`)

// Every query of the dashboards and every expression of the rules works, and has
// data, at a Prometheus that scrapes nodes of all roles with requests under way. No alert is
// about to fire there.
func TestQueriesHaveData(t *testing.T) {
	p := scraped.Start(t, scraped.Rules(t), startNodes(t))
	queries := map[string][]tried{"rules.yaml": nil}
	for _, group := range readRules(t).Groups {
		for _, r := range group.Rules {
			q := tried{expr: threshold.ReplaceAllString(r.Expr, "")}
			q.mayEmpty = slices.ContainsFunc(mayBeEmpty, func(part string) bool { return strings.Contains(q.expr, part) })
			queries["rules.yaml"] = append(queries["rules.yaml"], q)
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy/grafana/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for _, file := range files {
		queries[filepath.Base(file)] = dashboardQueries(t, file)
	}
	for file, of := range queries {
		for _, q := range of {
			mustHaveData(t, p, file, q)
		}
	}
	mustBeSilent(t, p)
}

// ofMachine are alerts that a busy machine or its full disk causes, whatever the nodes do.
var ofMachine = []string{"DKVLatencyHigh", "DKVSyncSlow", "DKVErrors", "DKVLeaderChanges", "DKVDiskFull"}

// mustBeSilent fails the test unless no alert is about to fire at nodes that are healthy.
func mustBeSilent(t *testing.T, p *scraped.Prometheus) {
	t.Helper()
	for _, group := range readRules(t).Groups {
		for _, r := range group.Rules {
			if r.Alert == "" || slices.Contains(ofMachine, r.Alert) {
				continue
			}
			var n int
			var err error
			if !testkit.Soon(func() bool {
				n, err = p.Query(fmt.Sprintf("ALERTS{alertname=%q}", r.Alert))
				return err == nil && n == 0
			}) {
				t.Errorf("%s: %d alerts at healthy nodes, %v", r.Alert, n, err)
			}
		}
	}
}

// dashboardQueries are the queries of a dashboard for all nodes and databases. Panels that say
// what no data means may be empty.
func dashboardQueries(t *testing.T, file string) []tried {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Templating struct {
			List []struct{ Name, AllValue string }
		}
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
			FieldConfig struct {
				Defaults struct{ NoValue string }
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	for _, v := range d.Templating.List {
		if v.Name == "job" && v.AllValue != "" {
			t.Errorf("%s: all jobs are %q, which are also those of other programs", file, v.AllValue)
		}
	}
	all := strings.NewReplacer("$__rate_interval", "10s", "$job", "dkv", "$database", ".*", "$instance", ".*")
	var out []tried
	for _, p := range d.Panels {
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("%s: the panel %q has no query", file, p.Title)
		}
		for _, q := range p.Targets {
			out = append(out, tried{all.Replace(q.Expr), p.FieldConfig.Defaults.NoValue != ""})
		}
	}
	return out
}

// mustHaveData fails the test unless a query works and, if something must be there, soon
// has a result.
func mustHaveData(t *testing.T, p *scraped.Prometheus, file string, q tried) {
	t.Helper()
	var n int
	var err error
	if !testkit.Soon(func() bool { n, err = p.Query(q.expr); return err != nil || n > 0 || q.mayEmpty }) || err != nil {
		t.Errorf("%s: %s: %d series, %v", file, q.expr, n, err)
	}
}
