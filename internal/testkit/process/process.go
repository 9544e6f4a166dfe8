// Package process runs dkvsrv as a process of its own, for tests: it waits until the
// process serves, keeps its log, sends it signals and waits for its end.
package process

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startTimeout is generous: a start replays a log on a busy machine.
const startTimeout = 60 * time.Second

// Options say what is run.
type Options struct {
	// Program is a path, or a name on the PATH.
	Program string
	Args    []string
	// Env is all of the environment.
	Env []string
	// Dir is the working directory, Log the file that what is printed is appended to.
	Dir, Log string
	// In runs the function that starts the process. A thread that stays as long as
	// the process may, so that the process dies with it; nil starts it right here,
	// and it outlives a test that is killed.
	In func(start func())
}

// Process is a dkvsrv that runs, or has run.
type Process struct {
	cmd     *exec.Cmd
	logPath string
	// serving gets the addresses once the process serves, and is closed when it ends.
	serving chan Addresses
	drained sync.WaitGroup
	// waited reaps the process once; both the one who ends it and the one who waits
	// for its end may ask.
	waited func() int
}

// Addresses are those that a process says it serves at.
type Addresses struct{ GRPC, HTTP string }

var servingLine = regexp.MustCompile(`msg=serving .*grpc=(\S+) http=(\S+)`)

// Environ is the environment without what would configure a node.
func Environ() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DKV") {
			env = append(env, v)
		}
	}
	return env
}

// Start starts a process. It does not wait until it serves, which may take other
// nodes.
func Start(opts Options) (*Process, error) {
	path, err := exec.LookPath(opts.Program)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(opts.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: exec.Command(path, opts.Args...), logPath: opts.Log, serving: make(chan Addresses, 1)}
	p.waited = sync.OnceValue(func() int {
		p.drained.Wait()
		_ = p.cmd.Wait()
		return p.cmd.ProcessState.ExitCode()
	})
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout = opts.Dir, opts.Env, log
	if opts.In != nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	} else {
		opts.In = func(start func()) { start() }
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	opts.In(func() { err = p.cmd.Start() })
	if err != nil {
		_ = log.Close()
		return nil, err
	}
	p.drained.Go(func() { p.drain(stderr, log) })
	return p, nil
}

// drain copies what the process prints to its log, and looks for where it serves.
func (p *Process) drain(stderr io.Reader, log *os.File) {
	defer log.Close()
	defer close(p.serving)
	lines := bufio.NewScanner(io.TeeReader(stderr, log))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if m := servingLine.FindStringSubmatch(lines.Text()); m != nil {
			p.serving <- Addresses{GRPC: m[1], HTTP: m[2]}
		}
	}
	_, _ = io.Copy(log, stderr) // a line too long for the scanner
}

// Await waits until the process serves, and fails if it ends before, or takes longer
// than a minute.
func (p *Process) Await() (Addresses, error) {
	select {
	case at, ok := <-p.serving:
		if !ok {
			p.Wait()
			return Addresses{}, fmt.Errorf("dkvsrv ended before it served: %s", p.Tail(20))
		}
		return at, nil
	case <-time.After(startTimeout):
		return Addresses{}, fmt.Errorf("dkvsrv does not serve after %v: %s", startTimeout, p.Tail(20))
	}
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal and does not wait.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Wait waits for the end and returns the exit code, -1 after a signal's own end.
func (p *Process) Wait() int { return p.waited() }

// End sends a signal and waits for the end.
func (p *Process) End(sig os.Signal) int {
	_ = p.Signal(sig)
	return p.Wait()
}

// Kill ends the process at once, also one that stands still.
func (p *Process) Kill() { p.End(os.Kill) }

// Tail returns the last lines of the log.
func (p *Process) Tail(lines int) string {
	raw, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
