// Package process runs dkvsrv as a process of its own, for tests: it waits until the
// process serves, keeps its log, sends it signals and waits for its end. The process does
// not outlive the test's: one that did would keep its ports, and write on into folders
// that nothing removes any more.
package process

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startTimeout is long, because a start on a busy machine may have to replay a log.
const startTimeout = 60 * time.Second

// Options say which program runs, and how.
type Options struct {
	// Program is a path, or a name on the PATH.
	Program string
	Args    []string
	// Env is all of the environment.
	Env []string
	// Dir is the working directory. The output is appended to the file Log.
	Dir, Log string
	// In runs the function that starts the process, on an OS thread that must live as
	// long as the process may: the kernel kills the process when that thread ends. Nil
	// means a thread that lives as long as the test's process.
	In func(start func())
}

// starts are run by a thread that ends with this process.
var starts = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread() // never unlocked: no other goroutine may end it
		for call := range calls {
			call()
		}
	}()
	return calls
})

// here runs start on the thread that ends with this process.
func here(start func()) {
	done := make(chan struct{})
	starts() <- func() { defer close(done); start() }
	<-done
}

// Process is a dkvsrv that runs or has ended.
type Process struct {
	cmd     *exec.Cmd
	logPath string
	// serving gets the addresses once the process serves, and is closed when it ends.
	serving chan Addresses
	drained sync.WaitGroup
	// waited reaps the process once, however often Wait and End are called.
	waited func() int
}

// Addresses are those that a process serves at, as its log says.
type Addresses struct{ GRPC, HTTP string }

var servingLine = regexp.MustCompile(`msg=serving .*grpc=(\S+) http=(\S+)`)

// Environ returns the environment without the variables that configure a node.
func Environ() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DKV") {
			env = append(env, v)
		}
	}
	return env
}

// Start starts a process. It does not wait until the process serves, since that may take
// other nodes.
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
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if opts.In == nil {
		opts.In = here
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

// drain copies what the process prints to its log, and finds the line with the addresses
// that it serves at.
func (p *Process) drain(stderr io.Reader, log *os.File) {
	defer log.Close()
	defer close(p.serving)
	lines := bufio.NewScanner(io.TeeReader(stderr, log))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if m := servingLine.FindStringSubmatch(lines.Text()); m != nil {
			select {
			case p.serving <- Addresses{GRPC: m[1], HTTP: m[2]}:
			default: // a promotion has made it something else, at the same addresses
			}
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

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal and returns at once.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Wait waits until the process has ended and returns its exit code, -1 if a signal ended it.
func (p *Process) Wait() int { return p.waited() }

// End sends a signal and waits as Wait does.
func (p *Process) End(sig os.Signal) int {
	_ = p.Signal(sig)
	return p.Wait()
}

// Kill kills the process, even one that is stopped, and waits for its end.
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
