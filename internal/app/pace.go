package app

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// lookEvery is how often the rate of allocations is looked at.
	lookEvery = 5 * time.Second
	// quietBelow and busyFrom are the bytes that a process allocates meanwhile that has
	// little to do, and much. In between it stays what it was.
	quietBelow, busyFrom = 40 << 20, 80 << 20
	// quietLooks is how many looks in a row make a process quiet. One makes it busy.
	quietLooks = 3
	// quietShare is by how much less garbage may come together while the process is quiet:
	// the collector runs seldom even so, and what it does not need stays the system's.
	quietShare = 5
)

// pace says whether a process is quiet, by what it allocates.
type pace struct {
	quiet bool
	calm  int
}

// next takes what was allocated since the last call, in bytes, and reports whether the
// process is quiet.
func (p *pace) next(allocated uint64) bool {
	switch {
	case allocated >= busyFrom:
		p.quiet, p.calm = false, 0
	case allocated >= quietBelow:
		p.calm = 0
	default:
		p.calm++
		p.quiet = p.quiet || p.calm >= quietLooks
	}
	return p.quiet
}

// followPace sets the collector's percentage while the process is busy, and a fraction of
// it while it is quiet, until done is closed.
func followPace(percent int, done <-chan struct{}) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	var p pace
	was, before := false, allocatedBytes()
	for {
		select {
		case <-t.C:
		case <-done:
			return
		}
		now := allocatedBytes()
		quiet := p.next(now - before)
		before = now
		if quiet == was {
			continue
		}
		if was = quiet; quiet {
			debug.SetGCPercent(max(percent/quietShare, 1))
			debug.FreeOSMemory() // what the load has needed
		} else {
			debug.SetGCPercent(percent)
		}
	}
}

// allocatedBytes is how many bytes of Go's heap the process has allocated since its start.
func allocatedBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
