// Package accesslog writes the access log of a node: a line for each request.
//
// A request is never held up by it. Its line waits in a queue of bounded length, and is
// dropped and counted if that is full. One goroutine encodes the lines and writes those that
// have come together at once.
package accesslog

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/logfile"
)

const (
	// queued is how many lines may wait for being written: a few seconds of a busy node.
	queued = 8192
	// together is how many bytes of lines are written at once at most.
	together = 64 << 10
)

// closePatience bounds the wait for a disk that hangs: a node that stops loses lines rather than
// its orderly end.
const closePatience = 2 * time.Second

// Options say where the lines go and how they look.
type Options struct {
	// File is the file; "" writes the lines to Common, at level info.
	File string
	// MaxSize is the size in bytes at which a new file is begun, 0 for none; Files is how
	// many earlier ones are kept.
	MaxSize int64
	Files   int
	// JSON writes an object for each line of the file, instead of text.
	JSON bool
	// Node and Database are in every line.
	Node, Database string
	// Common is the common log.
	Common *slog.Logger
}

// Log is an access log. All methods may be called concurrently, and Add on nil, too.
type Log struct {
	opts    Options
	encoder slog.Handler  // of the lines of the file; writes to batch
	batch   *bytes.Buffer // of the goroutine that writes
	lines   chan Line
	// reopen holds a token while the file is to be opened again.
	reopen  chan struct{}
	stop    chan struct{}
	stopped chan struct{}
	closing sync.Once
	// patience is how long Close waits for the disk.
	patience time.Duration

	mu      sync.Mutex    // held for as long as the disk takes
	file    *logfile.File // nil if there is none
	failing bool          // which is logged once

	written, dropped, failed atomic.Uint64
}

// New opens an access log. It is written until Close.
func New(o Options) (*Log, error) {
	l := &Log{opts: o, batch: new(bytes.Buffer), lines: make(chan Line, queued), reopen: make(chan struct{}, 1), patience: closePatience, stop: make(chan struct{}), stopped: make(chan struct{})}
	if o.File != "" {
		var err error
		if l.file, err = logfile.Open(o.File, o.MaxSize, o.Files); err != nil {
			return nil, fmt.Errorf("access-log: %w; name a file that this user may write to", err)
		}
		l.encoder = newEncoder(l.batch, &o)
	}
	go l.run()
	return l, nil
}

// Add has a line written, or drops it if too many are waiting. It never waits.
func (l *Log) Add(n Line) {
	if l == nil {
		return
	}
	n.VBucket = short(n.VBucket) // as a client has sent it: thousands of lines may wait, and hold no more than they say
	select {
	case l.lines <- n:
	default:
		l.dropped.Add(1)
	}
}

// run writes lines until the log is closed, and then those that are left.
func (l *Log) run() {
	defer close(l.stopped)
	for {
		select {
		case n := <-l.lines:
			l.write(n)
		case <-l.reopen:
			l.openAgain()
		case <-l.stop:
			l.finish()
			return
		}
	}
}

// finish writes the lines that are left, and closes the file.
func (l *Log) finish() {
	for len(l.lines) > 0 { // no one else takes them
		l.write(<-l.lines)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	if err := l.file.Close(); err != nil {
		l.opts.Common.Warn("the access log does not close cleanly", "file", l.opts.File, "error", err)
	}
}

// write writes a line, and those that wait behind it as far as they fit.
func (l *Log) write(n Line) {
	if l.file == nil {
		l.opts.Common.LogAttrs(context.Background(), slog.LevelInfo, "request", n.attrs()...)
		l.written.Add(1)
		return
	}
	select {
	case <-l.reopen: // before lines that came after it was asked for
		l.openAgain()
	default:
	}
	l.batch.Reset()
	count := uint64(0)
	for more := true; more; {
		_ = l.encoder.Handle(context.Background(), n.record()) // a buffer takes everything
		count++
		if more = l.batch.Len() < together; more {
			select {
			case n = <-l.lines:
			default:
				more = false
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.file.Write(l.batch.Bytes(), false)
	if err != nil {
		l.failed.Add(count)
	} else {
		l.written.Add(count)
	}
	l.note(err)
}

// note logs that the file cannot be written, once, and that it can be again.
func (l *Log) note(err error) {
	switch {
	case err != nil && !l.failing:
		l.opts.Common.Error("the access log cannot be written; its lines are lost until it can, and dkv_access_log_lines_total counts them", "file", l.opts.File, "error", err)
	case err == nil && l.failing:
		l.opts.Common.Info("the access log is written again", "file", l.opts.File)
	}
	l.failing = err != nil
}

// Reopen has the file opened again, which another program may have renamed: before the next line,
// and soon if there is none. If that fails, which is logged, the one that is open stays in use. It
// never waits.
func (l *Log) Reopen() {
	select {
	case l.reopen <- struct{}{}:
	default: // it is about to be
	}
}

// openAgain opens the file again, if there is one.
func (l *Log) openAgain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	if err := l.file.Reopen(); err != nil {
		l.opts.Common.Error("reload: the access log cannot be opened again; the file that is open stays in use", "file", l.opts.File, "error", err)
	}
}

// Close writes the lines that wait, and closes the file. It may be called again. A disk that
// hangs is not waited for: that is the error.
func (l *Log) Close() (err error) {
	l.closing.Do(func() {
		close(l.stop)
		hung := time.NewTimer(l.patience)
		defer hung.Stop()
		select {
		case <-l.stopped:
		case <-hung.C:
			err = fmt.Errorf("the last lines of the access log are lost: writing to %s hangs", cmp.Or(l.opts.File, "the common log"))
		}
	})
	return err
}
