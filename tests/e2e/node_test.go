package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"
)

// node is a dkvsrv process.
type node struct {
	cmd        *exec.Cmd
	grpc, http string
	drained    sync.WaitGroup
}

var servingLine = regexp.MustCompile(`msg=serving .*grpc=(\S+) http=(\S+)`)

// startTimeout is generous: a start replays a log on a busy machine.
const startTimeout = 60 * time.Second

// start runs dkvsrv and waits until it serves. Its log goes to a file.
func start(path, logPath, dir string, env, args []string) (*node, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	n := &node{cmd: exec.Command(path, args...)}
	n.cmd.Dir, n.cmd.Env, n.cmd.Stdout = dir, env, log
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	serving := make(chan []string, 1)
	n.drained.Go(func() {
		defer log.Close()
		defer close(serving)
		r := bufio.NewScanner(io.TeeReader(stderr, log))
		for r.Scan() {
			if m := servingLine.FindStringSubmatch(r.Text()); m != nil {
				serving <- m
			}
		}
	})
	select {
	case m := <-serving:
		if m == nil {
			n.drained.Wait()
			_ = n.cmd.Wait()
			text, _ := os.ReadFile(logPath)
			return nil, fmt.Errorf("it ended before it served: %s", strings.TrimSpace(string(text)))
		}
		n.grpc, n.http = m[1], m[2]
		return n, nil
	case <-time.After(startTimeout):
		n.kill()
		return nil, fmt.Errorf("it does not serve after %v", startTimeout)
	}
}

// signal sends a signal, waits for the end and returns the exit code, -1 after
// a signal's own end.
func (n *node) signal(sig os.Signal) int {
	_ = n.cmd.Process.Signal(sig)
	n.drained.Wait()
	_ = n.cmd.Wait()
	return n.cmd.ProcessState.ExitCode()
}

func (n *node) kill() { n.signal(os.Kill) }
