package state

import (
	"context"
	"runtime"

	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/kv"
)

// Reads bounds how many reads of storage are under way in a process. Each of them may
// hold a thread, and a value that no limit of the server has seen yet: thousands that
// began together would all have read theirs before the first one is sent. Those that
// wait hold nothing, and clients take turns: one that reads much makes itself wait.
type Reads struct{ gate *fair.Gate }

// leastReads keeps a disk busy, whatever the number of processors.
const leastReads = 64

// NewReads makes the bound of a process, which all of its replicas share.
func NewReads() *Reads { return newReads(max(leastReads, 8*runtime.GOMAXPROCS(0))) }

func newReads(most int) *Reads { return &Reads{gate: fair.New(most)} }

// do calls f, which must not wait for anything but storage, when there is a place.
func (r *Reads) do(ctx context.Context, f func() error) error {
	if err := r.gate.Enter(ctx, kv.PlaceOf(ctx).Client()); err != nil {
		return kv.Errorf(kv.Unavailable, "waiting for other reads: %w", err)
	}
	defer r.gate.Leave()
	return f()
}
