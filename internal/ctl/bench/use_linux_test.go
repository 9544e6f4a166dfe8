package bench

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/bench/procs"
)

func findProcesses(t *testing.T, pids ...int) *procs.Set {
	t.Helper()
	set, err := procs.Find(pids)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// What is used before the run and while it warms up does not count.
func TestServerUseIsThatOfTheTimeMeasured(t *testing.T) {
	server, target := startServer(t)
	target.Processes = findProcesses(t, os.Getpid())
	cfg := small(Put)
	cfg.Warmup = 20 * time.Millisecond
	used := func() time.Duration {
		u, err := target.Processes.Read()
		if err != nil {
			t.Error(err)
		}
		return u.CPU
	}
	const warmingUp = 300 * time.Millisecond
	began := false
	server.fail = func(string) error {
		if !began {
			began = true
			for start := used(); !t.Failed() && used() < start+warmingUp; {
			}
		}
		return nil
	}
	cfg.Workers = 1
	before := used()
	result, err := Run(t.Context(), cfg, target, Progress{})
	if err != nil {
		t.Fatal(err)
	}
	measured := used() - before - warmingUp
	use := result.Server
	if use == nil || use.Processes != 1 || use.Calls == nil {
		t.Fatalf("use is %+v", use)
	}
	if want := use.CPUSeconds * 1e6 / 300; use.CPUMicros != want || use.CPUSeconds > measured.Seconds() {
		t.Errorf("%v us an operation of 300, %v s in total, and without the warm-up there were %v", use.CPUMicros, use.CPUSeconds, measured)
	}
	var out bytes.Buffer
	if err := result.WriteText(&out); err != nil || !strings.Contains(out.String(), "\nserver      an operation: CPU ") {
		t.Errorf("%v, %s", err, &out)
	}
}

func TestUseIsOfTheTargetOfAComparison(t *testing.T) {
	_, reference := startServer(t)
	_, target := startServer(t)
	reference.Name = "reference"
	target.Processes = findProcesses(t, os.Getpid())
	c, err := Compare(t.Context(), small(Put), reference, target, 2, Progress{})
	if err != nil || c.Reference.CPU != nil || c.Target.CPU == nil {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRunReportsAServerThatEnded(t *testing.T) {
	server, target := startServer(t)
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	target.Processes = findProcesses(t, cmd.Process.Pid)
	server.fail = func(string) error {
		if server.total() == 100 {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // the signal is its error
		}
		return nil
	}
	result, err := Run(t.Context(), small(Put), target, Progress{})
	if err == nil || !strings.Contains(err.Error(), "cannot measure process") || result == nil || result.Operations != 300 {
		t.Errorf("%+v, %v", result, err)
	}
}
