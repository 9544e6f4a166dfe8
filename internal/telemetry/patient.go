package telemetry

import (
	"io"
	"sync"
	"time"
)

const (
	// linePatience is how long a line of the log waits until it is written.
	linePatience = 100 * time.Millisecond
	// mostWaiting is how many bytes of lines wait for a writer that hangs.
	mostWaiting = 1 << 20
)

// patient writes lines to a writer that may hang, as the standard error does while nothing reads
// the pipe or the terminal behind it: what logs must not hang with it. A line is written before
// Write returns, so that it is there if the process ends next, unless that takes too long. From
// then on lines wait in memory, and those for which there is no room are dropped, until the
// writer has caught up.
type patient struct {
	to io.Writer
	// missing makes a line that says how many were dropped.
	missing func(lines int) []byte

	mu      sync.Mutex
	waiting [][]byte
	size    int // of waiting
	dropped int
	// done is closed when nothing waits any more; nil if nothing does. late: it hangs.
	done chan struct{}
	late bool
}

// Write implements io.Writer. It takes one line, and never fails.
func (p *patient) Write(line []byte) (int, error) {
	p.mu.Lock()
	if p.size+len(line) > mostWaiting {
		p.dropped++
		p.mu.Unlock()
		return len(line), nil
	}
	p.waiting, p.size = append(p.waiting, append([]byte(nil), line...)), p.size+len(line)
	if p.done == nil {
		p.done = make(chan struct{})
		go p.write(p.done)
	}
	done, late := p.done, p.late
	p.mu.Unlock()
	if late {
		return len(line), nil
	}
	timer := time.NewTimer(linePatience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		p.mu.Lock()
		p.late = p.done == done
		p.mu.Unlock()
	}
	return len(line), nil
}

// write writes what waits, and closes done when nothing does any more.
func (p *patient) write(done chan struct{}) {
	defer close(done)
	for {
		p.mu.Lock()
		lines, dropped := p.waiting, p.dropped
		p.waiting, p.dropped = nil, 0
		if len(lines) == 0 && dropped == 0 {
			p.done, p.late = nil, false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		for _, line := range lines {
			_, _ = p.to.Write(line) // there is nothing to tell of a log that fails
			p.mu.Lock()
			p.size -= len(line)
			p.mu.Unlock()
		}
		if dropped > 0 { // after those that waited
			_, _ = p.to.Write(p.missing(dropped))
		}
	}
}
