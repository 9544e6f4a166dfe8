package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/config"
)

// The unit is one that systemd accepts, if it is here, and gives a node the time to drain.
func TestUnit(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "deploy/systemd/dkvsrv.service"))
	if err != nil {
		t.Fatal(err)
	}
	stop := regexp.MustCompile(`(?m)^TimeoutStopSec=(\S+)$`).FindStringSubmatch(string(raw))
	if stop == nil {
		t.Fatal("the unit has no TimeoutStopSec")
	}
	if grace, err := time.ParseDuration(stop[1]); err != nil || grace < 2*config.Default().Ops.DrainTimeout {
		t.Errorf("TimeoutStopSec is %s (%v), and drain-timeout %s", stop[1], err, config.Default().Ops.DrainTimeout)
	}
	// A small system has no more than these programs.
	programs := regexp.MustCompile(`(?m)^Exec\w+=(\S+)`).FindAllStringSubmatch(string(raw), -1)
	for _, m := range programs {
		if m[1] != "/usr/bin/dkvsrv" && m[1] != "/bin/sh" {
			t.Errorf("the unit runs %s, which neither the package nor every system has", m[1])
		}
	}
	if len(programs) < 2 {
		t.Errorf("the unit runs %q", programs)
	}
	// The unit shows a node no other folders that it could write to, and documents name this one.
	if !regexp.MustCompile(`(?m)^LogsDirectory=dkv$`).Match(raw) || !regexp.MustCompile(`(?m)^ProtectSystem=strict$`).Match(raw) {
		t.Error("an audit-log in /var/log/dkv could not be written")
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return
	}
	// The program is not installed here.
	here := strings.ReplaceAll(string(raw), "ExecStart=/usr/bin/dkvsrv", "ExecStart=/bin/true")
	path := filepath.Join(t.TempDir(), "dkvsrv.service")
	if err := os.WriteFile(path, []byte(here), 0o600); err != nil {
		t.Fatal(err)
	}
	// It may also complain about units and buses of this host.
	out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "dkvsrv.service") {
			t.Errorf("systemd-analyze verify (%v): %s", err, line)
		}
	}
}
