package audit

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// write writes a line, and with durable waits until it is on disk. A line that cannot be
// written to the file goes to the common log.
func (l *Log) write(n line, durable bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		l.written.Add(1)
		l.opts.Common.LogAttrs(context.Background(), slog.LevelInfo, "audit", n.attrs()...)
		return nil
	}
	l.openAgain()
	err := l.append(&n, time.Now(), durable)
	if err != nil {
		l.failed.Add(1)
		l.missing++
		l.opts.Common.LogAttrs(context.Background(), slog.LevelError, "audit",
			append(n.attrs(), slog.String("audit_log_error", err.Error()))...)
	} else {
		l.written.Add(1)
		if l.opts.Keep != nil {
			l.opts.Keep(n.attrs())
		}
	}
	return err
}

// append adds a line to the file, and notes how that went. The caller holds mu.
func (l *Log) append(n *line, now time.Time, durable bool) error {
	l.begun.Store(now.UnixNano())
	defer l.begun.Store(0)
	err := l.file.Write(n.encode(now, &l.opts), durable)
	l.fails(err)
	return err
}

func (l *Log) fails(err error) {
	if err == nil {
		l.failure.Store(nil)
	} else {
		l.failure.Store(&err)
	}
}

// recover writes how many lines are missing in the file, if there are any.
func (l *Log) recover(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	l.openAgain()
	if l.failure.Load() == nil && l.missing == 0 {
		return
	}
	n := line{Call: Call{Op: "lines that could not be written, and are in the common log"}, suppressed: l.missing}
	if l.append(&n, now, false) == nil {
		l.missing = 0
		l.written.Add(1)
	}
}

// Failure returns why the last line could not be written to the file, or that one has been under
// way for long; nil if neither is so. It never waits.
func (l *Log) Failure() error {
	if begun := l.begun.Load(); begun != 0 {
		if since := time.Since(time.Unix(0, begun)); since >= l.patience {
			return fmt.Errorf("the disk of %s hangs: a line has been under way for %s", l.opts.File, since.Round(time.Second))
		}
	}
	if err := l.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Reopen has the file opened again, which another program may have renamed: at once, or after the
// line that is under way. It does not wait for that. If it fails, which is logged, the file that
// is open stays in use.
func (l *Log) Reopen() {
	l.again.Store(true)
	if l.mu.TryLock() {
		l.openAgain()
		l.mu.Unlock()
	}
}

// openAgain opens the file again if that was asked for. The caller holds mu.
func (l *Log) openAgain() {
	if !l.again.Swap(false) || l.file == nil {
		return
	}
	err := l.file.Reopen()
	if l.fails(err); err != nil {
		l.opts.Common.Error("reload: the audit log cannot be opened again; the file that is open stays in use", "file", l.opts.File, "error", err)
	}
}

// Close closes the file, unless its disk hangs: that is the error.
func (l *Log) Close() error {
	var err error
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.file != nil {
			err = l.file.Close()
		}
	}()
	if !l.await(closed) {
		return fmt.Errorf("the audit log %s is not closed: its disk hangs", l.opts.File)
	}
	return err
}

var linesDesc = prometheus.NewDesc("dkv_audit_lines_total",
	"Lines of the audit log, by what became of them: written, suppressed because their host had too many, or failed.", []string{"result"}, nil)

// Describe implements prometheus.Collector.
func (l *Log) Describe(ch chan<- *prometheus.Desc) { ch <- linesDesc }

// Collect implements prometheus.Collector.
func (l *Log) Collect(ch chan<- prometheus.Metric) {
	for result, n := range map[string]uint64{"written": l.written.Load(), "suppressed": l.suppressed.Load(), "failed": l.failed.Load()} {
		ch <- prometheus.MustNewConstMetric(linesDesc, prometheus.CounterValue, float64(n), result)
	}
}
