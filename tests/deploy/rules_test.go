package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// ruleFile is what these tests read of deploy/prometheus/rules.yaml.
type ruleFile struct {
	Groups []struct {
		Rules []struct {
			Alert, Record, Expr string
			Annotations         map[string]string
		}
	}
}

func readRules(t *testing.T) ruleFile {
	t.Helper()
	var f ruleFile
	readYAML(t, "rules.yaml", &f)
	return f
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/prometheus", name))
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Each alert fires for its cause, and neither before nor afterwards: rules_test.yaml says
// when, and Prometheus' own program judges.
func TestRules(t *testing.T) {
	run(t, "promtool", "check", "rules", "rules.yaml")
	run(t, "promtool", "check", "config", "prometheus.yaml")
	run(t, "promtool", "test", "rules", "rules_test.yaml")
}

// Every alert has a test that it fires and one that it does not, and names a section of
// the runbooks.
func TestAlertsAreTestedAndHaveRunbooks(t *testing.T) {
	var tests struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, "rules_test.yaml", &tests)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, group := range tests.Tests {
		for _, c := range group.AlertRuleTest {
			if len(c.ExpAlerts) > 0 {
				fires[c.Alertname] = true
			} else {
				silent[c.Alertname] = true
			}
		}
	}
	runbooks, err := os.ReadFile(filepath.Join(root, "docs/RUNBOOKS.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(runbooks), "\n")
	alerts := 0
	for _, group := range readRules(t).Groups {
		for _, r := range group.Rules {
			if r.Alert == "" {
				continue
			}
			alerts++
			if !fires[r.Alert] || !silent[r.Alert] {
				t.Errorf("%s: a test that it fires: %v, that it does not: %v", r.Alert, fires[r.Alert], silent[r.Alert])
			}
			section := r.Annotations["runbook"]
			if section == "" || !slices.Contains(sections, "## "+section) && !slices.Contains(sections, "### "+section) {
				t.Errorf("%s: docs/RUNBOOKS.md has no section %q", r.Alert, section)
			}
		}
	}
	if alerts < 15 {
		t.Errorf("only %d alerts", alerts)
	}
}
