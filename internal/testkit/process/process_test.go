package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
)

// startEnv makes this test binary one that starts a process and waits to be killed. It
// names the log of the process.
const startEnv = "PROCESS_TEST_START"

func TestMain(m *testing.M) {
	if log := os.Getenv(startEnv); log != "" {
		startAndWait(log)
	}
	os.Exit(m.Run())
}

func startAndWait(log string) {
	p, err := Start(Options{Program: "sleep", Args: []string{"3600"}, Log: log})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	select {}
}

// running reports whether a process has neither ended nor become a zombie.
func running(t *testing.T, pid int) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	_, state, ok := strings.Cut(string(stat), ") ")
	if !ok {
		t.Fatalf("cannot read %q", stat)
	}
	return state[0] != 'Z' && state[0] != 'X'
}

// A test that is killed, as for a timeout, leaves no process behind.
func TestProcessEndsWithAKilledTest(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), startEnv+"="+filepath.Join(t.TempDir(), "log"))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = parent.Process.Kill(); _ = parent.Wait() })
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatalf("the test process says %q", line[:n])
	}
	if !running(t, pid) {
		t.Fatal("the process does not run while its test does")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the process ends with the test that started it", func() bool { return !running(t, pid) })
}

// A process stays when the goroutine that started it has ended, and its thread may have.
func TestProcessOutlivesTheGoroutineThatStartsIt(t *testing.T) {
	var p *Process
	done := make(chan error)
	go func() {
		var err error
		p, err = Start(Options{Program: "sleep", Args: []string{"3600"}, Log: filepath.Join(t.TempDir(), "log")})
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !running(t, p.PID()) {
		t.Error("the process has ended")
	}
	p.Kill()
	if running(t, p.PID()) {
		t.Error("the process runs after Kill")
	}
}
