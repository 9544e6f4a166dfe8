package procs

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestReadingGrowsWithWhatTheProcessDoes(t *testing.T) {
	s, err := Find([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	// Reading files uses processor time and makes system calls.
	var used Usage
	for used.CPU < 2*tick {
		now, err := s.Read()
		if err != nil {
			t.Fatal(err)
		}
		used = now.Since(before)
	}
	if !used.CallsKnown || used.Calls < 10 {
		t.Errorf("%d reads and writes, known: %t", used.Calls, used.CallsKnown)
	}
	if before.Switches == 0 {
		t.Error("a process that has run for a while was never switched from")
	}
}

func TestEndedProcessIsAnError(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	s, err := Find([]int{os.Getpid(), pid})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the signal is its error
	if _, err := s.Read(); err == nil || !strings.Contains(err.Error(), "no process on this machine") {
		t.Errorf("reading an ended process: %v", err)
	}
	if _, err := Find([]int{pid}); err == nil || !strings.Contains(err.Error(), "cannot measure process") {
		t.Errorf("finding an ended process: %v", err)
	}
}

// The id of an ended process may be given to another one.
func TestAnotherProcessWithTheSameIDIsAnError(t *testing.T) {
	s, err := Find([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	s.processes[0].started++
	if _, err := s.Read(); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("it is taken for the same process: %v", err)
	}
}

func TestParseStat(t *testing.T) {
	const after = " S 1 2 3 0 -1 4194560 10 0 0 0 150 25 7 8 20 0 9 0 4711 100 200"
	for _, name := range []string{"(dkvsrv)", "(a) b)", "(x y (z)"} {
		st, err := parseStat([]byte("12 " + name + after))
		if err != nil || st.usage.CPU != 1750*time.Millisecond || st.started != 4711 {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
	for _, wrong := range []string{"", "12 (x)", "12 (x) S 1 2", "12 (x)" + strings.Replace(after, "150", "x", 1)} {
		if _, err := parseStat([]byte(wrong)); err == nil {
			t.Errorf("%q is accepted", wrong)
		}
	}
	if _, err := parseStat([]byte("12 (x)" + strings.Replace(after, " S ", " Z ", 1))); err != errEnded {
		t.Errorf("a zombie: %v", err)
	}
}

func TestSince(t *testing.T) {
	before, after := Usage{time.Second, 100, 50, true}, Usage{3 * time.Second, 90, 70, true}
	if got := after.Since(before); got != (Usage{2 * time.Second, 0, 20, true}) {
		t.Errorf("%+v", got)
	}
	before.CallsKnown = false
	if after.Since(before).CallsKnown {
		t.Error("calls are known although the first reading lacks them")
	}
}
