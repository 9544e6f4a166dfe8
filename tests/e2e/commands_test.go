package e2e

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

type serversKey struct{}

// servers are the nodes that a script has started.
type servers struct {
	running map[string]*node
}

func newServers() *servers {
	return &servers{running: make(map[string]*node)}
}

func (s *servers) killAll() {
	for _, n := range s.running {
		n.Kill()
	}
}

func serversOf(ts *testscript.TestScript) *servers { return ts.Value(serversKey{}).(*servers) }

func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: serve NAME ARGS...")
	}
	name := args[0]
	n, err := start(program(ts, "dkvsrv"+ts.Getenv("RELEASE")), ts.MkAbs(name+".log"), ts.MkAbs("."), environ(ts), args[1:])
	if err != nil {
		ts.Fatalf("serve %s: %v", name, err)
	}
	serversOf(ts).running[name] = n
	ts.Setenv(name, n.grpc)
	ts.Setenv(name+"_http", n.http)
}

func cmdHalt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: halt NAME SIGNAL CODE")
	}
	n := serversOf(ts).running[args[0]]
	if n == nil {
		ts.Fatalf("no server %s", args[0])
	}
	delete(serversOf(ts).running, args[0])
	sig, ok := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}[args[1]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[1])
	}
	if code := n.End(sig); strconv.Itoa(code) != args[2] {
		ts.Fatalf("%s exited with %d, not %s; its log:\n%s", args[0], code, args[2], ts.ReadFile(args[0]+".log"))
	}
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME SIGNAL")
	}
	n, sig := serversOf(ts).running[args[0]], map[string]syscall.Signal{"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}[args[1]]
	if n == nil || sig == 0 {
		ts.Fatalf("no server %s, or unknown signal %s", args[0], args[1])
	}
	ts.Check(n.Signal(sig))
}

func cmdRun(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: run CODE PROGRAM ARGS...")
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(ts, args[1]), args[2:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), environ(ts)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if ctx.Err() != nil {
		ts.Fatalf("%s has not ended after %v:\n%s%s", args[1], commandTimeout, out.String(), errOut.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%s: %v", args[1], err)
	}
	for name, content := range map[string]string{"out": out.String(), "err": errOut.String()} {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(content), 0o644))
	}
	ts.Logf("[exit %d]\n%s%s", cmd.ProcessState.ExitCode(), out.String(), errOut.String())
	if code := cmd.ProcessState.ExitCode(); strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
}

func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: get URL")
	}
	body, err := fetch(args[0])
	ts.Check(os.WriteFile(ts.MkAbs("out"), body, 0o644))
	if good := err == nil; good == neg {
		ts.Fatalf("GET %s: %v\n%s", args[0], err, body)
	}
}

// fetch gets a URL. A status other than 2xx is an error.
func fetch(url string) ([]byte, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = errors.New(resp.Status)
	}
	return body, err
}

func cmdDamage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage GLOB BYTES")
	}
	paths, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	least, err := strconv.Atoi(args[1])
	ts.Check(err)
	damaged := 0
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		ts.Check(err)
		if len(raw) < least {
			continue
		}
		raw[len(raw)/4] ^= 0xff
		ts.Check(os.WriteFile(path, raw, 0o644))
		damaged++
	}
	if damaged == 0 {
		ts.Fatalf("no file of %d bytes or more matches %s", least, args[0])
	}
}

// program finds a program on the script's PATH.
func program(ts *testscript.TestScript, name string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	ts.Fatalf("no program %s", name)
	return ""
}

// environ is the script's environment.
func environ(ts *testscript.TestScript) []string {
	env := []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TMPDIR=" + ts.Getenv("TMPDIR")}
	for _, name := range []string{"DKV_LISTEN_ADDR", "DKV_LISTEN_ADR", "DKV_LOG_LEVEL", "DKVCTL_TLS_CA_FILE", "DKVCTL_TOKEN_FILE"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}
