package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/ctl/bench"
	"github.com/dkvdb/dkv/internal/refserver"
)

// quick are options that make a run short and quiet.
const quick = "-workers 4 -count 200 -warmup 0 -keyCount 100 -progress 0"

func runQuick(t *testing.T, addr, line string) outcome {
	t.Helper()
	return dkvctl(t, addr, strings.Fields("-bench "+line+" "+quick)...)
}

func TestBenchCountsWhatTheServerSaw(t *testing.T) {
	f := startFake(t)
	got := runQuick(t, f.addr, "put -o json")
	var r bench.Result
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != exitOK || got.stderr != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	if r.Operations != 200 || f.calls("Put") != 200 || r.Workers != 4 || r.Connections != 4 || r.Failed != 0 {
		t.Errorf("result %+v; the server saw %d puts", r, f.calls("Put"))
	}
	got = runQuick(t, f.addr, "get")
	if got.code != exitOK || !strings.HasPrefix(got.stdout, "get (linearizable) on "+f.addr+": closed loop, 4 workers, 4 connections, 100 keys of 16 B (uniform)") {
		t.Errorf("%+v", got)
	}
	if f.calls("Get") != 200 || strings.Contains(got.stdout, "unmatched") {
		t.Errorf("the server saw %d gets; %s", f.calls("Get"), got.stdout)
	}
}

func TestBenchSpreadsOverTheAddresses(t *testing.T) {
	a, b := startFake(t), startFake(t)
	if got := runQuick(t, a.addr+","+b.addr, "put"); got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	if na, nb := a.calls("Put"), b.calls("Put"); na+nb != 200 || na < 20 || nb < 20 {
		t.Errorf("the servers saw %d and %d puts of 200", na, nb)
	}
	expect(t, runQuick(t, a.addr+","+closedPort(t), "put"), outcome{code: 1, stderr: "cannot reach"})
}

func TestBenchTellsOfErrors(t *testing.T) {
	f := startFake(t)
	f.fail = func(method string) error {
		if method == "Put" && f.calls("Put")%10 == 0 {
			return status.Error(codes.ResourceExhausted, "busy; not applied")
		}
		return nil
	}
	got := runQuick(t, f.addr, "put")
	if got.code != exitOK || !strings.Contains(got.stdout, "ResourceExhausted ") || !strings.Contains(got.stdout, "busy; not applied") {
		t.Errorf("%+v", got)
	}
	f.fail = func(string) error { return status.Error(codes.Internal, "no") }
	got = runQuick(t, f.addr, "put")
	if got.code != exitFailed || !strings.Contains(got.stdout, "errors      200\n") || got.stderr != "no operation succeeded\n" {
		t.Errorf("%+v", got)
	}
}

func TestBenchStopsOnError(t *testing.T) {
	f := startFake(t)
	f.fail = func(string) error {
		if f.calls("Put") > 50 {
			return status.Error(codes.Unavailable, "going down")
		}
		return nil
	}
	got := runQuick(t, f.addr, "put -stop-on-error -count 100000")
	if got.code != exitFailed || !strings.Contains(got.stderr, "stopped at the first unavailable server: Unavailable: going down") ||
		!strings.HasPrefix(got.stdout, "put on ") {
		t.Errorf("%+v", got)
	}
	if n := f.calls("Put"); n < 51 || n > 60 {
		t.Errorf("the server saw %d puts", n)
	}
}

// The demonstration of durability, and the proof that it can fail.
func TestLedger(t *testing.T) {
	f := startFake(t)
	ledger := filepath.Join(t.TempDir(), "acked")
	got := dkvctl(t, f.addr, append(strings.Fields("-bench put -workers 4 -count 200 -progress 0"), "-ledger", ledger)...)
	if got.code != exitOK || !strings.Contains(got.stdout, "fresh keys of 32 B") {
		t.Fatalf("%+v", got)
	}
	expect(t, dkvctl(t, f.addr, "-bench", "check", "-ledger", ledger), outcome{stdout: "200 acknowledged, 0 lost\n"})
	var lost string
	for key := range f.pairs {
		lost = key
		break
	}
	delete(f.pairs, lost)
	expect(t, dkvctl(t, f.addr, "-bench", "check", "-ledger", ledger),
		outcome{code: 1, stdout: "200 acknowledged, 1 lost\n", stderr: "acknowledged writes were lost, such as " + lost})
	expect(t, dkvctl(t, f.addr, "-bench", "check", "-ledger", ledger, "-o", "json"),
		outcome{code: 1, stdout: `{"acknowledged":200,"lost":1,"examples":["` + lost + `"]}` + "\n", stderr: lost})
}

func TestBenchUsage(t *testing.T) {
	tests := []struct{ line, want string }{
		{"-bench putt", "the operations are put, get"},
		{"-bench check", "needs -ledger"},
		{"-bench get -ledger x", "-ledger needs the operation put or check"},
		{"-bench put -ledger x -ref 127.0.0.1:1", "do not go together"},
		{"-bench put -keySize 3", "keySize"},
	}
	for _, tt := range tests {
		expect(t, dkvctl(t, "", strings.Fields(tt.line)...), outcome{code: exitUsage, stderr: tt.want})
	}
	expect(t, runQuick(t, closedPort(t), "put"), outcome{code: 1, stderr: "connection refused"})
}

// serveReference runs a reference server and returns its address.
func serveReference(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() {
		var stderr bytes.Buffer
		code := refserver.Main(ctx, args, w, &stderr)
		w.Close()
		if code != exitOK {
			t.Errorf("%v ends with %d, %s", args, code, stderr.String())
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
	line := make([]byte, 100)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(line[:n]))
}

func TestBenchComparesWithAReference(t *testing.T) {
	echo := serveReference(t, "echo", "127.0.0.1:0")
	fsync := serveReference(t, "fsync", "127.0.0.1:0", t.TempDir())
	got := runQuick(t, echo, "put -rounds 2 -o json -ref "+fsync)
	var c bench.Comparison
	if err := json.Unmarshal([]byte(got.stdout), &c); err != nil || got.code != exitOK {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(c.Reference.Runs) != 2 || len(c.Target.Runs) != 2 || c.Reference.Runs[0].Target != fsync || c.Target.Runs[0].Target != echo {
		t.Errorf("%+v", c)
	}
	if c.ThroughputRatio <= 0 || c.Reference.Throughput.Min > c.Reference.Throughput.Median {
		t.Errorf("ratio %v, spread %+v", c.ThroughputRatio, c.Reference.Throughput)
	}
	text := runQuick(t, echo, "echo -rounds 1 -ref "+fsync)
	if text.code != exitFailed || !strings.Contains(text.stdout, "Unimplemented") || !strings.Contains(text.stderr, "no operation succeeded") {
		t.Errorf("a reference that serves nothing passes: %+v", text)
	}
}

func TestBenchInterrupted(t *testing.T) {
	f := startFake(t)
	ctx, interrupt := context.WithCancel(t.Context())
	f.fail = func(string) error {
		if f.calls("Put") >= 50 { // requests come at once: none may see exactly 50
			interrupt()
		}
		return nil
	}
	got := runMain(ctx, "", nil, strings.Fields("-a "+f.addr+" -bench put -duration 1h -warmup 0 -progress 0")...)
	if got.code != exitFailed || !strings.Contains(got.stderr, "interrupted") || !strings.Contains(got.stdout, "operations ") {
		t.Errorf("%+v", got)
	}
}

func TestBenchPrintsWhatTheServersUse(t *testing.T) {
	f := startFake(t)
	pid := strconv.Itoa(os.Getpid())
	got := runQuick(t, f.addr, "put -pids "+pid)
	if runtime.GOOS != "linux" {
		if got.code != exitFailed || !strings.Contains(got.stderr, "only Linux") {
			t.Errorf("%+v", got)
		}
		return
	}
	if got.code != exitOK || !strings.Contains(got.stdout, "\nserver      an operation: CPU ") || !strings.Contains(got.stdout, "(1 process, ") {
		t.Errorf("%+v", got)
	}
	got = runQuick(t, f.addr, "put -o json -pids "+pid)
	var r bench.Result
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || r.Server == nil || r.Server.Processes != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	// No process has the largest id that the kernel can give.
	expect(t, runQuick(t, f.addr, "put -pids "+pid+",4194304"),
		outcome{code: 1, stderr: "cannot measure process 4194304: no process on this machine has this id; -pids takes"})
}
