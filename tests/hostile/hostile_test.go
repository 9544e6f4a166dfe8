// Package hostile attacks nodes, and measures what other clients notice of it and what
// the attack leaves behind.
//
// Nodes and attackers are processes of their own: the test binary starts itself again
// under their names. While an attack goes on, an honest client writes and reads, and a
// new one connects now and then. Afterwards the node's memory, descriptors and
// goroutines have to come back to what they were.
//
// The battery takes half an hour, the brief form of it, in which a few attacks go on
// for a moment each, is what go test runs otherwise:
//
//	go test ./tests/hostile -run TestBattery -v -hostile.all -timeout 2h
//	go test ./tests/hostile -run TestBattery/slave/tiny-ages -v -hostile.all
//
// With -hostile.hour an hour of mixed load is run besides, in which minutes with and
// without attacks take turns, so that the noise of the machine is in both. Two of its
// attacks can be looked at by themselves, on a database that has grown before:
//
//	go test ./tests/hostile -run TestMixedLoad -v -hostile.hour 6m \
//	  -hostile.attacks stalled-snapshots,snapshot-churn -hostile.grown 512
//
// All of it shares the processors of one machine, though in the field attackers have their
// own. So attackers of the hour run only while nothing else wants to, and honest clients in a
// process that does nothing else: what they notice is what the nodes do to them. Each line of
// the hour's table has
//
//	time | what | p50 | p99 | failed | p99 of new clients | processors | MiB/descriptors/goroutines of each node | attacks
//
// where processors are the seconds that the nodes had of them, and waited for them, in the
// window. What they waited, and with it the latencies, depends on what else the machine does;
// what they had is what the attack costs. Each attack has after it how many actions it did
// of those that its pace allows, and the seconds that it had and waited.
package hostile

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/app"
	"github.com/dkvdb/dkv/tests/hostile/attack"
)

var (
	all     = flag.Bool("hostile.all", false, "run every attack against all that it fits, for -hostile.for each")
	lasting = flag.Duration("hostile.for", 8*time.Second, "how long an attack goes on, with -hostile.all")
	hour    = flag.Duration("hostile.hour", 0, "how long TestMixedLoad goes on; 0 leaves it out")
	minute  = flag.Duration("hostile.minute", time.Minute, "how long each window of TestMixedLoad lasts, with -hostile.hour")
	named   = flag.String("hostile.attacks", "", "the attacks to make, separated by commas; if empty, TestMixedLoad makes all of them, and TestBattery a few or all")
	grown   = flag.Int("hostile.grown", 0, "how many MiB the database holds before TestMixedLoad begins")
	table   = flag.String("hostile.table", "", "a file to write the table of results to")
)

// The programs.
const (
	dkvsrv   = "dkvsrv"
	attacker = "attacker"
)

// openFiles is the limit of open files that nodes run under. It is low: connections must
// leave enough to storage. Nodes read it from the environment.
const openFiles, openFilesKey = 512, "HOSTILE_OPEN_FILES"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		dkvsrv: func() {
			var n uint64
			if _, err := fmt.Sscan(os.Getenv(openFilesKey), &n); err == nil {
				limit := unix.Rlimit{Cur: n, Max: n}
				if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
			}
			os.Exit(app.Main(context.Background(), app.Process{
				Args: os.Args[1:], Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr,
			}))
		},
		attacker: func() { os.Exit(attackUntilTold(os.Args[1], os.Args[2])) },
	})
}

// report is what an attacker says in the end, as JSON.
type report struct {
	Actions int64  // how many it has begun
	Answers string // that its calls got
}

// attackUntilTold runs an attack against a target, which is JSON, until standard input
// ends, and prints its report.
func attackUntilTold(name, target string) int {
	var t attack.Target
	a, err := attack.Named(name)
	if err == nil {
		err = json.Unmarshal([]byte(target), &t)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := attack.NewEnemy(t)
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx, e) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := json.NewEncoder(os.Stdout).Encode(report{e.Actions(), e.Answers()}); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	cancel()
	select {
	case <-done:
		return 0
	case <-time.After(5 * time.Second): // an attack may not end by itself
		return 0
	}
}

// attacking is an attack that goes on.
type attacking struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	tell io.WriteCloser
	said *bufio.Reader
	stop sync.Once
}

// begin starts an attack.
func begin(t testing.TB, a attack.Attack, on attack.Target) *attacking {
	t.Helper()
	target, err := json.Marshal(on)
	if err != nil {
		t.Fatal(err)
	}
	// In the field the attacker does not share the nodes' processors. So it runs after them,
	// whatever their own priority; in the hour, only when nothing else wants to run. It is started
	// like that, since a process changes the priority of its threads one by one.
	command := []string{"nice", "-n", "10"}
	if *hour > 0 {
		command = []string{"chrt", "--idle", "0"}
	}
	command = append(command, attacker, a.Name, string(target))
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out := &attacking{t: t, name: a.Name, cmd: cmd}
	if out.tell, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	out.said = bufio.NewReader(stdout)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.end() })
	return out
}

// end stops the attack, whose connections break, and returns its report.
func (a *attacking) end() (out report) {
	a.stop.Do(func() {
		_ = a.tell.Close()
		stuck := time.AfterFunc(20*time.Second, func() { _ = a.cmd.Process.Kill() })
		defer stuck.Stop()
		line, _ := a.said.ReadBytes('\n')
		if err := json.Unmarshal(line, &out); err != nil {
			a.t.Logf("the attacker %s said %q: %v", a.name, line, err) // it had no processor to speak with
		}
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	})
	return out
}
