// Package audit writes the audit log of a node: a line of JSON for every administrative
// call with its result, and for every call that was rejected because of who made it.
//
// A line is written before the caller has its answer. A call that takes long has a line
// when it begins, too. If the file cannot be written, the lines go to the common log and
// the node's health says so, but calls go on; with Options.Required administrative calls
// are rejected instead, and each of them has a line before it does anything. Callers
// cannot fill the disk: files have a bounded size and number, and lines are bounded by
// host, apart for calls that were rejected, so that no one can hide the calls of others.
package audit

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/logfile"
	"github.com/dkvdb/dkv/internal/periodic"
)

// Caller is who makes a call, as the node has found out.
type Caller struct {
	Name string `json:"name,omitempty"`
	// Kind is how the name was established, such as "named" or "anonymous".
	Kind string `json:"kind"`
	// Credential is what the call has shown, such as "token ID": not the secret itself.
	Credential string `json:"credential,omitempty"`
	// Via is the node that forwards the call and vouches for the name.
	Via string `json:"via,omitempty"`
}

// CallerOf returns who makes the call of a context.
func CallerOf(ctx context.Context) Caller {
	id := auth.FromContext(ctx)
	if id == nil {
		return Caller{Kind: string(auth.Open)}
	}
	return Caller{Name: id.Name, Kind: string(id.Kind), Credential: id.Credential, Via: id.Via}
}

// Call is what a line says about a call.
type Call struct {
	Caller Caller
	// Address is where the connection comes from, host:port.
	Address string
	// Op is the method or the path, What the request in short: never values or tokens.
	Op, What string
}

// tellEvery is the time between two looks at how many lines were left out.
const tellEvery = time.Second

// Options say where the lines go.
type Options struct {
	// File is the file; "" writes the lines to Common.
	File string
	// MaxSize is the size in bytes at which a new file is begun, 0 for none; Files is how
	// many earlier ones are kept.
	MaxSize int64
	Files   int
	// Required rejects administrative calls that cannot be logged.
	Required bool
	// Node and Database are in every line.
	Node, Database string
	// Common is the common log.
	Common *slog.Logger
	// Keep gets the lines that go to the file, too; nil for nothing.
	Keep func(attrs []slog.Attr)
}

// Log is an audit log. It is safe for concurrent use.
type Log struct {
	opts Options
	// calls and refusals bound the lines of administrative and of rejected calls.
	calls, refusals bounded

	// patience is how long a line, and the end of the node, may wait for the disk.
	patience time.Duration

	// mu is held for as long as the disk takes. What health and metrics ask for does not need it.
	mu      sync.Mutex
	file    *logfile.File // nil if there is none
	missing int           // lines that the file has not, since the last one that it has

	// failure is that of the last line; nil for none.
	failure atomic.Pointer[error]
	// begun is since when a line is being written, in Unix nanoseconds; 0 if none is.
	begun atomic.Int64
	// again says that the file is to be opened again.
	again atomic.Bool
	// written, suppressed and failed count lines.
	written, suppressed, failed atomic.Uint64
}

// diskPatience is the patience of a Log: a disk takes less for a line unless it hangs.
const diskPatience = 2 * time.Second

// New opens an audit log.
func New(o Options) (*Log, error) {
	l := &Log{opts: o, calls: newBounded(), refusals: newBounded(), patience: diskPatience}
	if o.File == "" {
		return l, nil
	}
	var err error
	if l.file, err = logfile.Open(o.File, o.MaxSize, o.Files); err != nil {
		return nil, fmt.Errorf("audit-log: %w; name a file that this user may write to", err)
	}
	return l, nil
}

// ToCommon returns an audit log that writes to the common log.
func ToCommon(common *slog.Logger) *Log {
	l, _ := New(Options{Common: common}) // fails for files only
	return l
}

// Entry is an administrative call in the log.
type Entry struct {
	log        *Log
	call       Call
	phase      string // of the line at the end
	suppressed int    // before this one
	left       bool   // out, as too many
}

// Begin enters an administrative call before it does anything. There is a line now if the
// call may take long or the log is required. An error means that the call must not be made.
func (l *Log) Begin(c Call) (*Entry, error) {
	e := &Entry{log: l, call: c}
	var due bool
	if e.suppressed, due = l.calls.admit(hostOf(c.Address), time.Now()); !due {
		l.suppress()
		e.left = true
		if l.opts.Required {
			return nil, fmt.Errorf("this host makes more than %d administrative calls a second, and each of them must be in the audit log (audit-required); retry later (not applied)", linesPerSecond)
		}
		return e, nil
	}
	if !l.opts.Required && !long(c.Op) {
		return e, nil
	}
	err := l.write(line{Call: c, phase: "begin", suppressed: e.suppressed}, l.opts.Required)
	if err != nil && l.opts.Required {
		return nil, fmt.Errorf("the audit log cannot be written, and each administrative call must be in it (audit-required): %w (not applied)", err)
	}
	e.phase, e.suppressed = "end", 0
	return e, nil
}

// End writes the line of the call's result: a gRPC status code, and the text of the error,
// empty for none.
func (e *Entry) End(code, text string) {
	if !e.left {
		_ = e.log.write(line{Call: e.call, phase: e.phase, code: code, err: text, suppressed: e.suppressed}, false) // Failure has the error
	}
}

// long reports whether a call may take so long that its result comes too late to follow what
// happens, or never. Its name tells.
func long(op string) bool {
	op = strings.ToLower(op)
	return slices.ContainsFunc([]string{"backup", "restore", "resync", "snapshot"}, func(name string) bool { return strings.HasSuffix(op, name) })
}

// Refused logs a call that was rejected because of who made it.
func (l *Log) Refused(c Call, code, text string) {
	if code == "Unauthenticated" && c.Caller.Kind == string(auth.Open) { // none was found
		c.Caller.Kind = "unknown"
	}
	suppressed, due := l.refusals.admit(hostOf(c.Address), time.Now())
	if !due {
		l.suppress()
		return
	}
	_ = l.write(line{Call: c, code: code, err: text, suppressed: suppressed}, false) // Failure has the error
}

func (l *Log) suppress() { l.suppressed.Add(1) }

// Run logs how many lines were left out, and goes back to a file that could not be written,
// until ctx ends. After that it does not wait for a disk that hangs.
func (l *Log) Run(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.look(ctx)
	}()
	<-ctx.Done()
	l.await(ended)
	return nil
}

// await waits until done is closed, but not for a disk that hangs, and reports whether it was.
func (l *Log) await(done <-chan struct{}) bool {
	hung := time.NewTimer(l.patience)
	defer hung.Stop()
	select {
	case <-done:
		return true
	case <-hung.C:
		return false
	}
}

func (l *Log) look(ctx context.Context) {
	for periodic.Wait(ctx, tellEvery) {
		now := time.Now()
		l.recover(now)
		l.tell(now)
	}
	l.tell(time.Now())
}

// tell logs how many lines of each host were left out since the last one.
func (l *Log) tell(now time.Time) {
	for _, of := range []struct {
		op string
		by *bounded
	}{{"administrative calls that are left out", &l.calls}, {"rejected calls that are left out", &l.refusals}} {
		for from, n := range of.by.take(now) {
			host := "several"
			if from.IsValid() {
				host = from.String()
			}
			_ = l.write(line{Call: Call{Address: host, Op: of.op}, suppressed: n}, false) // Failure has the error
		}
	}
}
