package audit

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var pause = Call{Caller: Caller{Name: "ann", Kind: "named", Credential: "token 1a", Via: "n2"}, Address: "192.0.2.1:40000", Op: "PauseWrites", What: "for 1s"}

// logIn makes a log in a folder of its own, with its common log.
func logIn(t *testing.T, change ...func(*Options)) (l *Log, path string, common *testkit.Log) {
	t.Helper()
	common = &testkit.Log{}
	o := Options{
		File: filepath.Join(t.TempDir(), "audit.log"), MaxSize: 1 << 20, Files: 2, Node: "n1", Database: "default",
		Common: slog.New(slog.NewTextHandler(common, nil)),
	}
	for _, c := range change {
		c(&o)
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, o.File, common
}

func required(o *Options) { o.Required = true }

func begin(t *testing.T, l *Log, c Call) *Entry {
	t.Helper()
	e, err := l.Begin(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// linesOf returns the lines of a file, decoded, without their times.
func linesOf(t *testing.T, path string) (out []map[string]any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(content)) {
		var n map[string]any
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if _, err := time.Parse(time.RFC3339Nano, n["time"].(string)); err != nil {
			t.Error(err)
		}
		delete(n, "time")
		out = append(out, n)
	}
	return out
}

func wantLine(t *testing.T, got map[string]any, want string) {
	t.Helper()
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != want {
		t.Errorf("the line is\n%s, want\n%s", text, want)
	}
}

func TestOneLineForEachCall(t *testing.T) {
	l, path, common := logIn(t)
	begin(t, l, pause).End("FailedPrecondition", "not now")
	l.Refused(Call{Caller: Caller{Kind: "anonymous"}, Address: "192.0.2.1:1", Op: "Put", What: `key "acc"...`}, "Unauthenticated", "no token")
	lines := linesOf(t, path)
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	wantLine(t, lines[0], `{"address":"192.0.2.1:40000","code":"FailedPrecondition","database":"default","error":"not now",`+
		`"identity":{"credential":"token 1a","kind":"named","name":"ann","via":"n2"},"node":"n1","op":"PauseWrites","what":"for 1s"}`)
	wantLine(t, lines[1], `{"address":"192.0.2.1:1","code":"Unauthenticated","database":"default","error":"no token",`+
		`"identity":{"kind":"anonymous"},"node":"n1","op":"Put","what":"key \"acc\"..."}`)
	if n := len(common.Lines()); n != 0 {
		t.Errorf("%d lines in the common log", n)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v (%v)", info.Mode(), err)
	}
}

func TestLongCallsHaveALineWhenTheyBegin(t *testing.T) {
	l, path, _ := logIn(t)
	restore := pause
	restore.Op = "Restore"
	e := begin(t, l, restore)
	if lines := linesOf(t, path); len(lines) != 1 || lines[0]["phase"] != "begin" || lines[0]["code"] != nil {
		t.Errorf("at the begin: %v", lines)
	}
	e.End("OK", "")
	if lines := linesOf(t, path); len(lines) != 2 || lines[1]["phase"] != "end" || lines[1]["code"] != "OK" {
		t.Errorf("at the end: %v", lines)
	}
}

func TestWithoutFileLinesGoToTheCommonLog(t *testing.T) {
	common := &testkit.Log{}
	l := ToCommon(slog.New(slog.NewTextHandler(common, nil)))
	begin(t, l, pause).End("OK", "")
	if lines := common.Lines(); len(lines) != 1 || !strings.HasSuffix(lines[0],
		`msg=audit op=PauseWrites address=192.0.2.1:40000 identity=ann kind=named credential="token 1a" via=n2 what="for 1s" code=OK`+"\n") {
		t.Errorf("%q", lines)
	}
	l.Reopen()
}

// Names, keys and paths that callers choose cannot forge lines or make them huge.
func TestTextsOfCallersStayInTheirFields(t *testing.T) {
	l, path, _ := logIn(t)
	hostile := pause
	hostile.What = "x\"}\n{\"op\":\"Restore\"}\xff" + strings.Repeat("é", maxText)
	hostile.Caller.Name = strings.Repeat("n", 1<<20)
	begin(t, l, hostile).End("OK", strings.Repeat("e", 1<<20))
	lines := linesOf(t, path)
	if len(lines) != 1 || lines[0]["op"] != "PauseWrites" {
		t.Fatalf("%.200v", lines)
	}
	if content, _ := os.ReadFile(path); len(content) > 5*maxText {
		t.Errorf("a line of %d bytes", len(content))
	}
}

// The file says that lines are missing also if one could be written before the next look.
func TestMissingLinesAreSaidAfterOthers(t *testing.T) {
	l, path, _ := logIn(t)
	l.file.Close() // as a disk that fails
	begin(t, l, pause).End("OK", "")
	if err := l.file.Reopen(); err != nil {
		t.Fatal(err)
	}
	begin(t, l, pause).End("OK", "")
	l.recover(time.Now())
	l.recover(time.Now())
	if lines := linesOf(t, path); len(lines) != 2 || lines[1]["suppressed"] != 1.0 {
		t.Errorf("the file has %v", lines)
	}
}

// A file that cannot be written is said in the common log and by Failure; calls go on, and
// the file says how many lines it lacks once it can be written again.
func TestLinesSurviveAFileThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, path, common := logIn(t)
		l.file.Close() // as a disk that fails
		for range 3 {
			begin(t, l, pause).End("OK", "")
		}
		if lines := common.Lines(); len(lines) != 3 || !strings.Contains(lines[0], "op=PauseWrites") || !strings.Contains(lines[0], "audit_log_error=") {
			t.Errorf("the common log has %q", lines)
		}
		if err := l.Failure(); err == nil || l.failed.Load() != 3 {
			t.Errorf("failure %v", err)
		}
		if err := l.file.Reopen(); err != nil { // the disk is back
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = l.Run(ctx) }()
		time.Sleep(2 * tellEvery)
		synctest.Wait()
		if err := l.Failure(); err != nil {
			t.Error(err)
		}
		lines := linesOf(t, path)
		if len(lines) != 1 || lines[0]["suppressed"] != 3.0 {
			t.Errorf("the file has %v", lines)
		}
		cancel()
		synctest.Wait()
	})
}

// A disk that hangs holds the calls that have lines, and nothing else: the health says so, metrics
// are served, and neither a reload nor the end of the node waits.
func TestADiskThatHangsHoldsCallsOnly(t *testing.T) {
	l, path, _ := logIn(t)
	patience := l.patience
	l.mu.Lock() // as a line that hangs
	l.begun.Store(time.Now().Add(-2 * patience).UnixNano())
	if err := l.Failure(); err == nil || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("failure %v", err)
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(l)
	if _, err := metrics.Gather(); err != nil {
		t.Error(err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	l.suppress()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.patience = time.Millisecond
	var refused sync.WaitGroup
	refused.Go(func() { l.Refused(pause, "PermissionDenied", "no") }) // waits
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("closed: %v", err)
	}
	l.patience = testkit.Patience
	l.mu.Unlock()
	refused.Wait() // it opens the file again, in a folder that the test removes
}

// A file is opened again after the line that was under way, if not before.
func TestReopenAfterTheLineUnderWay(t *testing.T) {
	l, path, _ := logIn(t)
	l.mu.Lock()
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	l.mu.Unlock()
	begin(t, l, pause).End("OK", "")
	if lines := linesOf(t, path); len(lines) != 1 {
		t.Errorf("the new file has %v", lines)
	}
}

func TestRequiredLogRejectsWhatItCannotHold(t *testing.T) {
	l, path, _ := logIn(t, required)
	begin(t, l, pause).End("OK", "")
	if lines := linesOf(t, path); len(lines) != 2 || lines[0]["phase"] != "begin" || lines[1]["phase"] != "end" {
		t.Errorf("the file has %v", lines)
	}
	l.file.Close()
	if _, err := l.Begin(pause); err == nil || !strings.Contains(err.Error(), "audit-required") {
		t.Errorf("with a file that fails: %v", err)
	}
	if err := l.file.Reopen(); err != nil { // the disk is back
		t.Fatal(err)
	}
	begin(t, l, pause).End("OK", "")
	l.calls.hosts[hostOf(pause.Address)] = &host{limit: rate.NewLimiter(0, 0)} // no more for now
	_, err := l.Begin(pause)
	if err == nil || !strings.Contains(err.Error(), "more than 20 administrative calls a second") {
		t.Errorf("a host that makes too many: %v", err)
	}
}

func TestFileThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "nosuch", "audit.log"), dir} {
		if _, err := New(Options{File: path}); err == nil || !strings.Contains(err.Error(), "audit-log") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
