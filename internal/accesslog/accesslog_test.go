package accesslog

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var put = Line{
	Begun: time.Date(2026, 1, 31, 10, 0, 0, 7, time.FixedZone("", 3600)), Took: 1500 * time.Microsecond, Op: "Put", Code: "OK",
	Peer: "192.0.2.1:40000", Principal: "ann", Via: "n2", VBucket: "7", Key: `"or\x00der"`, RequestID: "a1-7", AckLevel: "sync", RequestBytes: 37, ResponseBytes: 21,
}

// Lines that wait to be written hold no long texts of clients.
func TestWaitingLinesAreShort(t *testing.T) {
	l := &Log{lines: make(chan Line, 1)} // no one writes
	n := put
	n.VBucket = strings.Repeat("v", 1<<20)
	l.Add(n)
	if got := len((<-l.lines).VBucket); got > 2*maxText {
		t.Errorf("a line holds %d bytes", got)
	}
}

// logIn opens a log in a folder of its own, with its common log.
func logIn(t *testing.T, change ...func(*Options)) (l *Log, path string, common *testkit.Log) {
	t.Helper()
	common = &testkit.Log{}
	o := Options{File: filepath.Join(t.TempDir(), "access.log"), Node: "n1", Database: "default", Common: slog.New(slog.NewTextHandler(common, nil))}
	for _, c := range change {
		c(&o)
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, o.File, common
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func count(t *testing.T, l *Log, result string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(l)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var of *dto.Metric
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == result {
			of = m
		}
	}
	return of.GetCounter().GetValue()
}

// The fields and their order are what programs rely on that read the lines.
func TestFieldsAreStable(t *testing.T) {
	stream := Line{Begun: put.Begun, Took: time.Second, Op: "WatchChanges", Code: "Canceled", Principal: "open", RequestBytes: 2, Stream: true}
	for name, c := range map[string]struct {
		json bool
		want string
	}{
		"text": {false, `time=2026-01-31T09:00:00.000Z node=n1 database=default op=Put code=OK took=1.5ms peer=192.0.2.1:40000 principal=ann via=n2 vbucket=7 key="\"or\\x00der\"" request_id=a1-7 ack_level=sync request_bytes=37 response_bytes=21
time=2026-01-31T09:00:00.000Z node=n1 database=default op=WatchChanges code=Canceled took=1s principal=open request_bytes=2
`},
		"JSON": {true, `{"time":"2026-01-31T09:00:00.000000007Z","node":"n1","database":"default","op":"Put","code":"OK","took":"1.5ms","peer":"192.0.2.1:40000","principal":"ann","via":"n2","vbucket":"7","key":"\"or\\x00der\"","request_id":"a1-7","ack_level":"sync","request_bytes":37,"response_bytes":21}
{"time":"2026-01-31T09:00:00.000000007Z","node":"n1","database":"default","op":"WatchChanges","code":"Canceled","took":"1s","principal":"open","request_bytes":2}
`},
	} {
		t.Run(name, func(t *testing.T) {
			l, path, _ := logIn(t, func(o *Options) { o.JSON = c.json })
			l.Add(put)
			l.Add(stream)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if got := content(t, path); got != c.want {
				t.Errorf("the file has\n%s, want\n%s", got, c.want)
			}
		})
	}
}

func TestLinesGoToTheCommonLog(t *testing.T) {
	l, _, common := logIn(t, func(o *Options) { o.File = "" })
	l.Add(put)
	l.Reopen()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if lines := common.Lines(); len(lines) != 1 || !strings.Contains(lines[0], "level=INFO msg=request op=Put code=OK took=1.5ms peer=") {
		t.Errorf("%q", lines)
	}
}

// A request does not wait for a disk that hangs: what does not fit into the queue is counted.
func TestLinesAreDroppedWhenTooManyWait(t *testing.T) {
	l, path, _ := logIn(t)
	l.mu.Lock() // as a write that hangs
	const extra = 3
	// The goroutine that writes has taken some out of the queue before it hangs.
	testkit.Eventually(t, "lines are dropped", func() bool {
		for range queued {
			l.Add(put)
		}
		return l.dropped.Load() >= extra
	})
	l.mu.Unlock()
	dropped := l.dropped.Load()
	testkit.Eventually(t, "the others are written", func() bool { return len(l.lines) == 0 })
	l.Add(put)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := count(t, l, "dropped"), float64(dropped); got != want {
		t.Errorf("%v dropped, want %v", got, want)
	}
	if got, want := strings.Count(content(t, path), "\n"), int(count(t, l, "written")); got != want || want <= queued {
		t.Errorf("%d lines, %d written", got, want)
	}
}

// Another program renames the file and has it opened again, as logrotate does.
func TestReopen(t *testing.T) {
	l, path, _ := logIn(t)
	l.Add(put)
	testkit.Eventually(t, "it is written", func() bool { return count(t, l, "written") == 1 })
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	l.Add(put)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".away"} {
		if n := strings.Count(content(t, p), "\n"); n != 1 {
			t.Errorf("%s has %d lines", p, n)
		}
	}
}

// A file is opened again without a line, too: the program that has renamed it waits for that.
func TestReopenWithoutLines(t *testing.T) {
	l, path, _ := logIn(t)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	testkit.Eventually(t, "there is a new file", func() bool { _, err := os.Stat(path); return err == nil })
}

// Neither a reload nor the end of the node waits for a disk that hangs.
func TestNothingWaitsForADiskThatHangs(t *testing.T) {
	l, _, _ := logIn(t)
	l.patience = time.Millisecond
	l.mu.Lock() // as a write that hangs
	l.Add(put)
	l.Reopen()
	l.Reopen()
	err := l.Close()
	l.mu.Unlock()
	if err == nil || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("closed: %v", err)
	}
	<-l.stopped
}

// A file that cannot be written is said in the common log once, and so is its end.
func TestFailureIsCountedAndSaidOnce(t *testing.T) {
	l, path, common := logIn(t)
	l.mu.Lock()
	l.file.Close() // as a disk that fails
	l.mu.Unlock()
	for n := range 3 {
		l.Add(put)
		testkit.Eventually(t, "it fails", func() bool { return count(t, l, "failed") == float64(n+1) })
	}
	l.Reopen() // the disk is back
	l.Add(put)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lines := common.Lines()
	if len(lines) != 2 || !strings.Contains(lines[0], "level=ERROR") || !strings.Contains(lines[1], "is written again") {
		t.Errorf("the common log has %q", lines)
	}
	if n := strings.Count(content(t, path), "\n"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// Names and keys that callers choose cannot forge lines or make them huge.
func TestTextsOfCallersStayInTheirFields(t *testing.T) {
	l, path, _ := logIn(t, func(o *Options) { o.JSON = true })
	hostile := put
	hostile.Principal = "x\"}\n{\"op\":\"Restore\"}\xff" + strings.Repeat("é", 1<<20)
	l.Add(hostile)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	text := content(t, path)
	var n map[string]any
	if err := json.Unmarshal([]byte(text), &n); err != nil || n["op"] != "Put" || len(text) > 8*maxText {
		t.Errorf("%v, %d bytes: %.300s", err, len(text), text)
	}
}

func TestFileThatCannotBeOpened(t *testing.T) {
	if _, err := New(Options{File: filepath.Join(t.TempDir(), "nosuch", "access.log")}); err == nil || !strings.Contains(err.Error(), "access-log: ") {
		t.Errorf("%v", err)
	}
}

func TestNoLogTakesLines(t *testing.T) { (*Log)(nil).Add(put) }
