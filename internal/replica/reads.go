package replica

import (
	"context"
	"runtime"

	"github.com/dkvdb/dkv/internal/kv"
)

// Reads bounds how many reads of storage are under way in a process. Each of them may
// hold a thread, and a value that no limit of the server has seen yet: thousands that
// began together would all have read theirs before the first one is sent. Those that
// wait hold nothing.
type Reads struct{ places chan struct{} }

// leastReads keeps a disk busy, whatever the number of processors.
const leastReads = 64

// NewReads makes the bound of a process, which all of its replicas share.
func NewReads() *Reads {
	return &Reads{places: make(chan struct{}, max(leastReads, 8*runtime.GOMAXPROCS(0)))}
}

// do calls f, which must not wait for anything but storage, when there is a place.
func (r *Reads) do(ctx context.Context, f func() error) error {
	select {
	case r.places <- struct{}{}: // also for one that has no time to wait
	default:
		select {
		case r.places <- struct{}{}:
		case <-ctx.Done():
			return kv.Errorf(kv.Unavailable, "waiting for other reads: %w", ctx.Err())
		}
	}
	defer func() { <-r.places }()
	return f()
}
