// Package faults gives a running node a fault, for a drill: it falls silent, loses other nodes,
// or its disk is slow. A fault ends by itself; see DESIGN.md.
package faults

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrActive is the error of a second fault at the same time.
var ErrActive = errors.New("a fault of another drill is active on this node")

// Faults are those of one process. A nil *Faults is a node that has not agreed to drills: its
// connections and its disk are not wrapped.
type Faults struct {
	log *slog.Logger
	// active is the fault of this moment; nil for none.
	active atomic.Pointer[Active]
	begun  *prometheus.CounterVec
	shown  *prometheus.GaugeVec

	mu sync.Mutex
	// dialled are the open connections that this node has made.
	dialled map[*conn]struct{}
}

// New returns the faults of a node that has agreed to drills.
func New(log *slog.Logger) *Faults {
	return &Faults{
		log: log, dialled: make(map[*conn]struct{}),
		begun: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dkv_drill_faults_total", Help: "Faults that drills have given this node."}, []string{"kind"}),
		shown: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "dkv_drill_fault", Help: "1 while a fault of a drill is active on this node."}, []string{"kind"}),
	}
}

// Describe implements prometheus.Collector.
func (f *Faults) Describe(ch chan<- *prometheus.Desc) { f.begun.Describe(ch); f.shown.Describe(ch) }

// Collect implements prometheus.Collector.
func (f *Faults) Collect(ch chan<- prometheus.Metric) { f.begun.Collect(ch); f.shown.Collect(ch) }

// Active is a fault that has begun.
type Active struct {
	Fault
	of    *Faults
	until time.Time
	ended chan struct{}
	once  sync.Once
}

// Begin begins a fault, unless one is active. It ends after its time, whatever becomes of the
// caller, or earlier by End.
func (f *Faults) Begin(fault Fault) (*Active, error) {
	if err := fault.Check(); err != nil {
		return nil, err
	}
	a := &Active{Fault: fault, of: f, until: time.Now().Add(fault.For), ended: make(chan struct{})}
	f.mu.Lock()
	if was := f.active.Load(); was != nil {
		f.mu.Unlock()
		return nil, fmt.Errorf("%w: %s, for up to %s", ErrActive, was.Fault, was.Left().Round(time.Second))
	}
	f.begun.WithLabelValues(string(fault.Kind)).Inc()
	f.shown.WithLabelValues(string(fault.Kind)).Set(1)
	f.active.Store(a)
	time.AfterFunc(fault.For, a.End) // not before it is active, or it could end before that and stay
	cut := f.refused(a)
	f.mu.Unlock()
	f.log.Warn("a drill has begun: "+fault.String(), "fault", string(fault.Kind), "for", fault.For, "caller", fault.Exempt)
	for _, c := range cut {
		_ = c.Close() // its user finds out
	}
	return a, nil
}

// End ends the fault. It may be called again.
func (a *Active) End() {
	a.once.Do(func() {
		a.of.shown.WithLabelValues(string(a.Kind)).Set(0)
		a.of.active.Store(nil) // from here on another one may begin
		close(a.ended)
		a.of.log.Warn("a drill has ended: the fault is over", "fault", string(a.Kind), "after", (a.For - max(0, a.Left())).Round(time.Millisecond))
	})
}

// Ended is closed when the fault has ended.
func (a *Active) Ended() <-chan struct{} { return a.ended }

// Left returns how long the fault will last at most.
func (a *Active) Left() time.Duration { return time.Until(a.until) }

// Now returns the fault of this moment; nil for none.
func (f *Faults) Now() *Active {
	if f == nil {
		return nil
	}
	return f.active.Load()
}

// Sync waits for as long as a slow disk would take longer for a sync.
func (f *Faults) Sync() {
	a := f.Now()
	if a == nil || a.Kind != SlowDisk {
		return
	}
	t := time.NewTimer(a.Delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.ended:
	}
}

// refused returns the open connections that a fault closes. The caller holds mu.
func (f *Faults) refused(a *Active) (out []*conn) {
	for c := range f.dialled {
		if a.refuses(c.to) {
			out = append(out, c)
		}
	}
	return out
}

// refuses reports whether the node at an address refuses this one.
func (a *Active) refuses(address string) bool { return a.Kind == Unreachable && a.Address == address }

// holds reports whether nothing passes on a connection.
func (a *Active) holds(c *conn) bool {
	switch a.Kind {
	case Silent:
		return c.from == "" || c.from != a.Exempt
	case Partition:
		return c.to != "" || c.ofNodes
	}
	return false
}
