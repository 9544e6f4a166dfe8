package chaos

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/process"
)

// ctl runs dkvctl where the clients are, and returns what it prints.
func (c *cluster) ctl(args ...string) (string, error) {
	cmd := exec.Command(dkvctl, args...)
	cmd.Env = append(process.Environ(), c.security.environ()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var err error
	c.clients.do(func() { err = cmd.Start() })
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("dkvctl %s: %w: %s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), err
}

// verify waits until dkvctl -verify says that nodes have the same state.
func (c *cluster) verify(nodes ...*node) {
	c.t.Helper()
	var out string
	var err error
	if !testkit.SoonRun(func() bool {
		out, err = c.ctl("-a", addresses(nodes), "-verify")
		return err == nil && strings.Contains(out, fmt.Sprintf("equal: %d nodes", len(nodes)))
	}) {
		c.t.Fatalf("not within %v: the nodes are equal: %s %v", testkit.Patience, out, err)
	}
}

// addresses are those of nodes, as dkvctl takes them.
func addresses(nodes []*node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.addr)
	}
	return strings.Join(all, ",")
}
