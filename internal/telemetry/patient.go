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

// Patient writes lines to a writer that may hang, as the standard error does while nothing reads
// the pipe or the terminal behind it: what logs must not hang with it. A line is written before
// Write returns, so that it is there if the process ends next, unless that takes too long. From
// then on lines wait in memory, and those for which there is no room are dropped, until the
// writer has caught up.
type Patient struct {
	to io.Writer

	mu sync.Mutex
	// missing makes a line that says how many were dropped; nil makes none.
	missing func(lines int) []byte
	waiting [][]byte
	size    int // of waiting
	dropped int
	// done is closed when nothing waits any more; nil if nothing does. late: it hangs.
	done chan struct{}
	late bool
}

// NewPatient returns a Patient that writes to a writer. The lines of a logger that is given it say
// how many were dropped.
func NewPatient(to io.Writer) *Patient { return &Patient{to: to} }

// says has missing make the line for dropped ones.
func (p *Patient) says(missing func(lines int) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing = missing
}

// Write implements io.Writer. It takes one line, and never fails.
func (p *Patient) Write(line []byte) (int, error) {
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
func (p *Patient) write(done chan struct{}) {
	defer close(done)
	for {
		p.mu.Lock()
		lines, dropped, missing := p.waiting, p.dropped, p.missing
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
		if dropped > 0 && missing != nil { // after those that waited
			_, _ = p.to.Write(missing(dropped))
		}
	}
}
