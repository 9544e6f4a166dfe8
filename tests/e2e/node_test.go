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
	logPath    string
	// serving gets what the line says that tells of serving.
	serving chan []string
	drained sync.WaitGroup
}

var servingLine = regexp.MustCompile(`msg=serving .*grpc=(\S+) http=(\S+)`)

// startTimeout is generous: a start replays a log on a busy machine.
const startTimeout = 60 * time.Second

// start runs dkvsrv and waits until it serves. Its log goes to a file.
func start(path, logPath, dir string, env, args []string) (*node, error) {
	n, err := launch(path, logPath, dir, env, args)
	if err != nil {
		return nil, err
	}
	if err := n.await(); err != nil {
		return nil, err
	}
	return n, nil
}

// launch runs dkvsrv, which may wait for others before it serves.
func launch(path, logPath, dir string, env, args []string) (*node, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	n := &node{cmd: exec.Command(path, args...), logPath: logPath, serving: make(chan []string, 1)}
	n.cmd.Dir, n.cmd.Env, n.cmd.Stdout = dir, env, log
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	n.drained.Go(func() {
		defer log.Close()
		defer close(n.serving)
		r := bufio.NewScanner(io.TeeReader(stderr, log))
		for r.Scan() {
			if m := servingLine.FindStringSubmatch(r.Text()); m != nil {
				n.serving <- m
			}
		}
	})
	return n, nil
}

// await waits until the node serves, and kills it where it does not.
func (n *node) await() error {
	select {
	case m := <-n.serving:
		if m == nil {
			n.drained.Wait()
			_ = n.cmd.Wait()
			text, _ := os.ReadFile(n.logPath)
			return fmt.Errorf("it ended before it served: %s", strings.TrimSpace(string(text)))
		}
		n.grpc, n.http = m[1], m[2]
		return nil
	case <-time.After(startTimeout):
		n.kill()
		return fmt.Errorf("it does not serve after %v", startTimeout)
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
