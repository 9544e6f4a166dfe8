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
	quietShare = 8
	// startPatience is for how long a process starts at most, as far as the collector is
	// concerned. Until the last vBucket serves it may take long, as when others are awaited: those
	// that serve have load meanwhile, and under load so low a percentage costs much of the CPU.
	startPatience = 15 * time.Second
)

// quietPercent is the collector's percentage while the process is quiet.
func quietPercent(percent int) int { return max(percent/quietShare, 1) }

// pace says whether a process is quiet, by what it allocates.
type pace struct {
	quiet, busy bool
	calm        int
}

// next takes what was allocated since the last call, in bytes. It reports whether the
// process is quiet, and whether it was busy until now.
func (p *pace) next(allocated uint64) (quiet, eased bool) {
	was := p.busy
	p.busy = allocated >= busyFrom
	switch {
	case p.busy:
		p.quiet, p.calm = false, 0
	case allocated >= quietBelow:
		p.calm = 0
	default:
		p.calm++
		p.quiet = p.quiet || p.calm >= quietLooks
	}
	return p.quiet, was && !p.busy
}

// followPace sets the collector's percentage while the process is busy, and a fraction of
// it while it is quiet, until done is closed. It returns to the system what a load has
// needed as soon as that has ended: with some load left, the collector would take a while
// to run at all, since it lets as much garbage come together as there was in use.
//
// A process begins quiet, and stays so until started is closed, whatever it allocates: the
// garbage of the start of a thousand vBuckets would be its greatest need of memory.
func followPace(percent int, started, done <-chan struct{}) {
	debug.SetGCPercent(quietPercent(percent))
	select {
	case <-started:
	case <-time.After(startPatience):
	case <-done:
		return
	}
	debug.FreeOSMemory()
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	p := pace{quiet: true, busy: true} // what the start's end leaves is returned at the first look
	was, before := true, allocatedBytes()
	for {
		select {
		case <-t.C:
		case <-done:
			return
		}
		now := allocatedBytes()
		quiet, eased := p.next(now - before)
		before = now
		switch {
		case quiet && !was:
			debug.SetGCPercent(quietPercent(percent))
		case was && !quiet:
			debug.SetGCPercent(percent)
		}
		if eased || quiet && !was {
			debug.FreeOSMemory()
		}
		was = quiet
	}
}

// allocatedBytes is how many bytes of Go's heap the process has allocated since its start.
func allocatedBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
