package chaos

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

// process is a running dkvsrv.
type process struct {
	cmd     *exec.Cmd
	logPath string
	// serving gets the HTTP address once the process serves, and is closed when
	// it ends.
	serving chan string
	ended   sync.WaitGroup
}

var servingLine = regexp.MustCompile(`msg=serving .*http=(\S+)`)

// startTimeout is generous: a start replays a log on a busy machine.
const startTimeout = 60 * time.Second

// startProcess runs a program in a place. It does not wait until it serves, which
// may take other nodes.
func startProcess(p *place, program, logPath, dir string, env, args []string) (*process, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	out := &process{cmd: exec.Command(path, args...), logPath: logPath, serving: make(chan string, 1)}
	out.cmd.Dir, out.cmd.Stdout = dir, log
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DKV") { // what would configure a node
			out.cmd.Env = append(out.cmd.Env, v)
		}
	}
	out.cmd.Env = append(out.cmd.Env, env...)
	out.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := out.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	p.do(func() { err = out.cmd.Start() })
	if err != nil {
		_ = log.Close()
		return nil, err
	}
	out.ended.Go(func() {
		defer log.Close()
		defer close(out.serving)
		r := bufio.NewScanner(io.TeeReader(stderr, log))
		r.Buffer(nil, 4<<20)
		for r.Scan() {
			if m := servingLine.FindStringSubmatch(r.Text()); m != nil {
				out.serving <- m[1]
			}
		}
		_, _ = io.Copy(log, stderr) // a line too long for the scanner
	})
	return out, nil
}

// await waits until the process serves and returns its HTTP address.
func (p *process) await() (http string, err error) {
	select {
	case http, ok := <-p.serving:
		if !ok {
			return "", fmt.Errorf("dkvsrv ended before it served: %s", p.tail(20))
		}
		return http, nil
	case <-time.After(startTimeout):
		return "", fmt.Errorf("dkvsrv does not serve after %v: %s", startTimeout, p.tail(20))
	}
}

// signal sends a signal and does not wait.
func (p *process) signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// end sends a signal, waits for the end and returns the exit code, -1 after a
// signal's own end.
func (p *process) end(sig syscall.Signal) int {
	_ = p.signal(sig)
	p.ended.Wait()
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// tail returns the last lines of the log.
func (p *process) tail(lines int) string {
	raw, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
