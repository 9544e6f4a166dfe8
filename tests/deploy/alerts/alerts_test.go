// Package alerts brings the cause of each alert in deploy to real nodes, and removes it: the
// alert fires, and clears.
package alerts

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dkvdb/dkv/internal/app"
	"github.com/dkvdb/dkv/internal/ctl"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/tests/deploy/scraped"
)

const dkvsrv = "dkvsrv"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		dkvsrv: func() {
			os.Exit(app.Main(context.Background(), app.Process{
				Args: os.Args[1:], Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Wall: wall(),
			}))
		},
		"dkvctl": func() {
			os.Exit(ctl.Main(context.Background(), os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// aheadVariable is by how much the clock of a node is ahead.
const aheadVariable = "TEST_CLOCK_AHEAD"

// wall is the time of a node's machine; nil for that of this one.
func wall() func() time.Time {
	ahead, err := time.ParseDuration(os.Getenv(aheadVariable))
	if err != nil {
		return nil
	}
	return func() time.Time { return time.Now().Add(ahead) }
}

// causes is empty by default: all of them take six minutes.
var causes = flag.String("causes", "", "the causes of alerts to bring, separated by commas: cluster, storage, security, limits; or all")

// Durations of the rules are divided by faster in these tests: 5m is 5s, and 1h is a minute.
// Thresholds are those that are shipped, but for that of compaction: 32 GiB do not fall
// behind within a test, so it is 32 KiB.
const faster = 60

var alertName = regexp.MustCompile(`- alert: (\w+)`)

// shipped is the text of the rules in deploy.
func shipped(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(scraped.Rules(t))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var duration = regexp.MustCompile(`(\[|for: )(\d+)([mh])`)

// fasterRules writes the rules as they are in these tests, and returns the file.
func fasterRules(t *testing.T) string {
	t.Helper()
	rules := duration.ReplaceAllStringFunc(shipped(t), func(s string) string {
		m := duration.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2])
		if m[3] == "h" {
			n *= 60
		}
		return fmt.Sprintf("%s%ds", m[1], n*60/faster)
	})
	rules = strings.Replace(rules, "> 32 * 1024 * 1024 * 1024", "> 32 * 1024", 1)
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The rules of these tests are rules, and all durations are shorter.
func TestFasterRules(t *testing.T) {
	rules := fasterRules(t)
	if out, err := exec.CommandContext(t.Context(), scraped.Program(t, "promtool"), "check", "rules", rules).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	text, err := os.ReadFile(rules)
	if err != nil || duration.Match(text) || strings.Contains(string(text), "* 1024 * 1024") || !strings.Contains(string(text), "[60s]") {
		t.Errorf("%v: %s", err, text)
	}
}

// watch is a Prometheus that evaluates the alerts over nodes.
type watch struct {
	*scraped.Prometheus
	// fired are the alerts that have fired and cleared, by name.
	fired map[string]bool
}

// cause brings the cause of alerts and removes it. Each of them is silent before, fires
// meanwhile, and clears afterwards.
func (w *watch) cause(t *testing.T, what string, alerts []string, begin, end func()) {
	t.Helper()
	for _, a := range alerts {
		testkit.Eventually(t, a+" is silent before: "+what, func() bool { return w.state(a) == "" })
	}
	begin()
	fired := w.await(t, what, alerts, "firing")
	end()
	cleared := w.await(t, "the end of: "+what, alerts, "")
	for _, a := range alerts {
		w.fired[a] = true
		t.Logf("| %s | %s | %.0fs | %.0fs |", a, what, fired[a].Seconds(), cleared[a].Seconds())
	}
}

// await waits until all alerts are in a state, and returns how long each took. The longest
// window of the rules is a minute, and a node that was away may need a while.
func (w *watch) await(t *testing.T, what string, alerts []string, state string) map[string]time.Duration {
	t.Helper()
	begun, took := time.Now(), make(map[string]time.Duration)
	for range 3 { // as many times testkit.Patience
		if testkit.Soon(func() bool {
			for _, a := range alerts {
				if _, done := took[a]; !done && w.state(a) == state {
					took[a] = time.Since(begun)
				}
			}
			return len(took) == len(alerts)
		}) {
			return took
		}
	}
	for _, a := range alerts {
		if _, done := took[a]; !done {
			t.Errorf("%s: %s is %q, not %q", what, a, w.state(a), state)
		}
	}
	t.FailNow()
	return nil
}

// state is firing, pending or "" for an alert.
func (w *watch) state(alert string) string {
	for _, state := range []string{"firing", "pending"} {
		if n, err := w.Query(fmt.Sprintf("ALERTS{alertname=%q,alertstate=%q}", alert, state)); err == nil && n > 0 {
			return state
		}
	}
	return ""
}

// Each alert fires when its cause is there, and clears when that is gone, at a Prometheus
// that scrapes real nodes.
func TestAlertsFireByTheirCauses(t *testing.T) {
	fired, ran := make(map[string]bool), 0
	scenes := map[string]func(*testing.T, map[string]bool){
		"cluster": causesOfClusters, "storage": causesOfStorage, "security": causesOfSecurity, "limits": causesOfLimits,
	}
	asked := strings.Split(*causes, ",")
	for name, scene := range scenes {
		if slices.Contains(asked, name) || slices.Contains(asked, "all") {
			t.Run(name, func(t *testing.T) { ran++; scene(t, fired) })
		}
	}
	if t.Failed() || ran < len(scenes) { // not all were asked for
		return
	}
	for _, m := range alertName.FindAllStringSubmatch(shipped(t), -1) {
		if !fired[m[1]] {
			t.Errorf("no cause here has %s fire", m[1])
		}
	}
}
