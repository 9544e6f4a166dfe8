package app

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/config"
)

const (
	// heapFloor is memory that is reserved and never touched, so that it costs
	// address space only. It counts as heap: the collector, which otherwise would
	// run every few megabytes of garbage on a node whose data is outside Go's
	// heap, runs when as much again has come together. Unlike a greater GOGC it
	// adds the same to a heap of any size. See followPace for a node without load.
	heapFloor = 64 << 20
	// heapPerVBucket is about what a vBucket keeps of Go's heap and stacks while
	// nothing happens: the queues and goroutines of its Raft group.
	heapPerVBucket = 96 << 10
	// workingHeap is room for what is neither cache nor request: tables being
	// built by Badger, copies being verified, and garbage.
	workingHeap = 256 << 20
	// shares is how often max-memory-in-flight may be taken: by messages, and by the results
	// of requests.
	shares = 2
)

// tuneCollector fits Go's collector to a database, whose start has ended when started is
// closed: see heapFloor, heapPercent, heapLimit and followPace. The result undoes it.
func tuneCollector(cfg *config.Config, started <-chan struct{}) (undo func()) {
	ballast := make([]byte, heapFloor)
	undoPercent := func() {}
	if os.Getenv("GOGC") == "" {
		percent := heapPercent(cfg.Node.VBuckets)
		before := debug.SetGCPercent(quietPercent(percent))
		done, ended := make(chan struct{}), make(chan struct{})
		go func() { defer close(ended); followPace(percent, started, done) }()
		undoPercent = func() {
			close(done)
			<-ended
			debug.SetGCPercent(before)
		}
	}
	before := int64(-1) // changes nothing
	if os.Getenv("GOMEMLIMIT") == "" {
		before = debug.SetMemoryLimit(heapLimit(cfg))
	}
	return func() {
		debug.SetMemoryLimit(before)
		undoPercent()
		runtime.KeepAlive(ballast)
	}
}

// heapPercent is how much garbage may come together, as GOGC says it: heapFloor
// bytes, however many vBuckets there are. What these keep is as good as constant;
// with Go's 100 percent, as much garbage again would stay in memory.
func heapPercent(vBuckets int) int {
	return 100 * heapFloor / (heapFloor + vBuckets*heapPerVBucket)
}

// heapLimit is how large Go's heap may become in bytes, garbage included, before
// the collector runs more often than it would for the live heap alone. It is what
// the configuration lets the node use, so that a live heap stays well below.
// Diskless data has no bound, and gets no limit.
func heapLimit(cfg *config.Config) int64 {
	if cfg.Storage.Diskless {
		return math.MaxInt64
	}
	limit := int64(heapFloor+workingHeap) + shares*int64(cfg.Limits.MemoryInFlight)
	if cfg.Storage.Engine == config.Badger {
		engines := len(node.LayoutOf(cfg).VBuckets)
		limit += int64(engines) * node.BadgerShare(&cfg.Storage, engines).HeapBytes()
	}
	return limit
}
