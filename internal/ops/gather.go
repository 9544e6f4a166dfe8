package ops

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// gatherPause is the least time between two gatherings of all metrics: clients that scrape
// all the time must not take the processor from requests.
const gatherPause = 50 * time.Millisecond

// shared gathers once for all that ask at the same time. What it returns was gathered
// after the call began.
type shared struct {
	from prometheus.Gatherer

	turn  sync.Mutex // held while gathering
	ended time.Time  // when the last gathering ended, under turn

	mu   sync.Mutex
	next *gathering // has not begun yet; nil if no one waits
}

// gathering is one gathering of all metrics and its result.
type gathering struct {
	done     chan struct{}
	families []*dto.MetricFamily
	err      error
}

// Gather implements prometheus.Gatherer. The result is not to be changed.
func (s *shared) Gather() ([]*dto.MetricFamily, error) {
	s.mu.Lock()
	g, first := s.next, s.next == nil
	if first {
		g = &gathering{done: make(chan struct{})}
		s.next = g
	}
	s.mu.Unlock()
	if first {
		s.run(g)
	}
	<-g.done
	return g.families, g.err
}

// run gathers once no other gathering runs and the pause is over.
func (s *shared) run(g *gathering) {
	defer close(g.done)
	s.turn.Lock()
	defer s.turn.Unlock()
	time.Sleep(gatherPause - time.Since(s.ended))
	s.mu.Lock()
	s.next = nil // a call that comes from now on gets the next one
	s.mu.Unlock()
	defer func() { s.ended = time.Now() }()
	g.families, g.err = s.from.Gather()
}
