// Package statsd sends the metrics of a process to a statsd server, at intervals, as lines
// over UDP. What is lost on the way is missing there: a counter's line has what was counted
// since the line before.
package statsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const (
	// interval is how often metrics are sent: statsd servers flush every ten seconds.
	interval = 10 * time.Second
	// packet bounds the lines that are sent at once, in bytes, so that they fit into an
	// Ethernet frame.
	packet = 1400
	// lastTime bounds what is sent at the end: the server's name may not be found.
	lastTime = 500 * time.Millisecond
)

// Options are what a Sender is made of.
type Options struct {
	// Addr is the server's host:port.
	Addr     string
	Gatherer prometheus.Gatherer
	Log      *slog.Logger
}

// Sender sends metrics to a statsd server.
type Sender struct {
	opts Options
	// sent are the counters as they were sent last, by name.
	sent map[string]float64
	// failing is set while sending fails, which is logged once.
	failing bool
}

// New returns a Sender that sends nothing yet.
func New(opts Options) *Sender { return &Sender{opts: opts, sent: make(map[string]float64)} }

// Run sends all metrics now and then at intervals, until ctx ends, and then once more: what was
// counted since the last time would be missing for good.
func (s *Sender) Run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s.note(s.send(ctx))
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTime)
			defer cancel()
			_ = s.send(last) // UDP promises nothing, and there is no next time
			return
		}
	}
}

// note logs that sending fails, once, and that it works again.
func (s *Sender) note(err error) {
	switch {
	case err != nil && !s.failing:
		s.opts.Log.Warn("metrics cannot be sent to statsd-addr; trying again every ten seconds", "addr", s.opts.Addr, "error", err)
	case err == nil && s.failing:
		s.opts.Log.Info("metrics are sent to statsd-addr again", "addr", s.opts.Addr)
	}
	s.failing = err != nil
}

// send gathers and sends all metrics once. The server's name is looked up each time.
func (s *Sender) send(ctx context.Context) error {
	families, gathered := s.opts.Gatherer.Gather()
	conn, err := new(net.Dialer).DialContext(ctx, "udp", s.opts.Addr)
	if err != nil {
		return errors.Join(gathered, err)
	}
	defer conn.Close()
	var lines []byte
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, line := range s.lines(f.GetName(), m) {
				if len(lines) > 0 && len(lines)+len(line) > packet {
					if _, err := conn.Write(lines); err != nil {
						return errors.Join(gathered, err)
					}
					lines = lines[:0]
				}
				lines = append(lines, line...)
			}
		}
	}
	if len(lines) > 0 {
		_, err = conn.Write(lines)
	}
	return errors.Join(gathered, err)
}

// lines returns the lines of a metric, each with its end.
func (s *Sender) lines(family string, m *dto.Metric) []string {
	name := nameOf(family, m.GetLabel())
	switch {
	case m.Counter != nil:
		return s.counter(name, m.Counter.GetValue())
	case m.Histogram != nil:
		return append(s.counter(name+".count", float64(m.Histogram.GetSampleCount())), s.counter(name+".sum", m.Histogram.GetSampleSum())...)
	case m.Summary != nil:
		return append(s.counter(name+".count", float64(m.Summary.GetSampleCount())), s.counter(name+".sum", m.Summary.GetSampleSum())...)
	case m.Gauge != nil:
		return gauge(name, m.Gauge.GetValue())
	default:
		return gauge(name, m.GetUntyped().GetValue())
	}
}

// counter returns the line of what was counted since the last one; none if nothing was.
func (s *Sender) counter(name string, value float64) []string {
	more := value - s.sent[name]
	if more < 0 {
		more = value // it has begun again
	}
	s.sent[name] = value
	if more == 0 || math.IsNaN(more) || math.IsInf(more, 0) {
		return nil
	}
	return []string{line(name, more, "c")}
}

// gauge returns the lines of a gauge. A sign would be taken for a change of the value before.
func gauge(name string, value float64) []string {
	switch {
	case math.IsNaN(value) || math.IsInf(value, 0):
		return nil
	case value < 0:
		return []string{line(name, 0, "g"), line(name, value, "g")}
	}
	return []string{line(name, value, "g")}
}

func line(name string, value float64, kind string) string {
	return fmt.Sprintf("%s:%s|%s\n", name, strconv.FormatFloat(value, 'f', -1, 64), kind)
}

// nameOf returns the name of a metric with its labels in it, such as
// dkv_requests_total.code.OK.op.Get: servers differ in whether they know tags.
func nameOf(family string, labels []*dto.LabelPair) string {
	var b strings.Builder
	b.WriteString(family)
	for _, l := range labels {
		b.WriteString("." + clean(l.GetName()) + "." + clean(l.GetValue()))
	}
	return b.String()
}

// clean replaces what separates the parts of a line and of a name.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return '_'
	}, text)
}
