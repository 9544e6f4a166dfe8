package audit

import (
	"context"
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
		l.written++
		l.opts.Common.LogAttrs(context.Background(), slog.LevelInfo, "audit", n.attrs()...)
		return nil
	}
	err := l.file.Write(n.encode(time.Now(), &l.opts), durable)
	if err != nil {
		l.failed++
		l.missing++
		l.opts.Common.LogAttrs(context.Background(), slog.LevelError, "audit",
			append(n.attrs(), slog.String("audit_log_error", err.Error()))...)
	} else {
		l.written++
		if l.opts.Keep != nil {
			l.opts.Keep(n.attrs())
		}
	}
	l.failure = err
	return err
}

// recover writes how many lines are missing in the file, if there are any.
func (l *Log) recover(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil || l.file == nil {
		return
	}
	n := line{Call: Call{Op: "lines that could not be written, and are in the common log"}, suppressed: l.missing}
	if l.failure = l.file.Write(n.encode(now, &l.opts), false); l.failure == nil {
		l.missing = 0
		l.written++
	}
}

// Failure returns why the last line could not be written to the file; nil if it could.
func (l *Log) Failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// Reopen opens the file again, which another program may have renamed.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	l.failure = l.file.Reopen()
	return l.failure
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

var linesDesc = prometheus.NewDesc("dkv_audit_lines_total",
	"Lines of the audit log, by what became of them: written, suppressed because their host had too many, or failed.", []string{"result"}, nil)

// Describe implements prometheus.Collector.
func (l *Log) Describe(ch chan<- *prometheus.Desc) { ch <- linesDesc }

// Collect implements prometheus.Collector.
func (l *Log) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for result, n := range map[string]uint64{"written": l.written, "suppressed": l.suppressed, "failed": l.failed} {
		ch <- prometheus.MustNewConstMetric(linesDesc, prometheus.CounterValue, float64(n), result)
	}
}
