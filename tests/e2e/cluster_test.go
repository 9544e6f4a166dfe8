package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dkvdb/dkv/internal/testkit"
)

// patience bounds the wait for what happens by itself; a test that reaches it fails.
const patience = testkit.Patience

func cmdPorts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: ports NAME...")
	}
	addresses, err := testkit.Addresses(len(args))
	ts.Check(err)
	for i, name := range args {
		ts.Setenv(name, addresses[i])
	}
}

func cmdForm(ts *testscript.TestScript, neg bool, args []string) {
	flags := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") })
	if flags < 0 {
		flags = len(args)
	}
	if neg || flags == 0 {
		ts.Fatalf("usage: form NAME... [ARGS]")
	}
	names, flagged := args[:flags], args[flags:]
	var raft, urls []string
	for _, name := range names {
		raft = append(raft, name+"_raft")
	}
	cmdPorts(ts, false, raft)
	for _, name := range raft {
		urls = append(urls, "http://"+ts.Getenv(name))
	}
	ts.Setenv("CLUSTER", strings.Join(urls, ","))
	for _, name := range names {
		cmdMaster(ts, false, append([]string{name}, flagged...))
	}
	cmdServing(ts, false, names)
}

func cmdMaster(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: master NAME ARGS...")
	}
	name := args[0]
	if ts.Getenv(name+"_raft") == "" {
		cmdPorts(ts, false, []string{name + "_raft"})
	}
	listen := "127.0.0.1:0"
	if given := ts.Getenv(name + "_grpc"); given != "" {
		listen = given // for a script that talks to the node before it serves
	}
	flags := []string{
		"--config", ts.Getenv("CONFIG"), "--role", "master", "--node-name", name, "--db-folder", ts.MkAbs(name),
		"--listen-addr", listen, "--http-listen-addr", "127.0.0.1:0", "--disable-discovery-client=true",
		"--nexus-node-url", "http://" + ts.Getenv(name+"_raft"),
	}
	if !slices.Contains(args, "--nexus-cluster-url") {
		flags = append(flags, "--nexus-cluster-url", ts.Getenv("CLUSTER"))
	}
	cmdLaunch(ts, false, append(append([]string{name}, flags...), args[1:]...))
}

func cmdLaunch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: launch NAME ARGS...")
	}
	name := args[0]
	n, err := launch(program(ts, "dkvsrv"+ts.Getenv("RELEASE")), ts.MkAbs(name+".log"), ts.MkAbs("."), environ(ts), args[1:])
	if err != nil {
		ts.Fatalf("launch %s: %v", name, err)
	}
	serversOf(ts).running[name] = n
}

func cmdServing(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: serving NAME...")
	}
	for _, name := range args {
		n := serversOf(ts).running[name]
		if n == nil {
			ts.Fatalf("no server %s", name)
		}
		if err := n.await(); err != nil {
			ts.Fatalf("%s: %v", name, err)
		}
		ts.Setenv(name, n.grpc)
		ts.Setenv(name+"_http", n.http)
	}
}

func cmdEnds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ends NAME CODE")
	}
	n := serversOf(ts).running[args[0]]
	if n == nil {
		ts.Fatalf("no server %s", args[0])
	}
	delete(serversOf(ts).running, args[0])
	stuck := time.AfterFunc(patience, n.Kill)
	defer stuck.Stop()
	if code := n.Wait(); strconv.Itoa(code) != args[1] {
		ts.Fatalf("%s exited with %d, not %s; its log:\n%s", args[0], code, args[1], ts.ReadFile(args[0]+".log"))
	}
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM ARGS...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out []byte
	var failed error
	if !testkit.SoonRun(func() bool {
		if args[1] == "get" {
			out, failed = fetch(args[2])
		} else {
			cmd := exec.Command(program(ts, args[1]), args[2:]...)
			cmd.Dir, cmd.Env = ts.MkAbs("."), environ(ts)
			out, failed = cmd.CombinedOutput()
		}
		return failed == nil && pattern.Match(out)
	}) {
		ts.Fatalf("it never came about; the last that was said: %v\n%s", failed, out)
	}
	ts.Check(os.WriteFile(ts.MkAbs("out"), out, 0o644))
	ts.Logf("%s", out)
}

func cmdLogged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: logged NAME PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	if !testkit.Soon(func() bool { return pattern.MatchString(ts.ReadFile(args[0] + ".log")) }) {
		ts.Fatalf("%s never logged it; its log:\n%s", args[0], ts.ReadFile(args[0]+".log"))
	}
}
