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
type Reads struct {
	gate *fair.Gate
	// parts bounds the parts of large reads, each of which keeps a thread busy for long.
	parts *fair.Gate
}

// Reads that wait for the disk keep it busy if there are some for each processor. Those of
// large values that are cached take processors, in threads that Go's scheduler does not
// count: with many of them nothing else gets its turn, Raft's heartbeats among it.
const (
	leastReads        = 16
	readsPerProcessor = 4
	// leastParts is how many parts of large reads are under way at least, and one for each processor
	// is the most: of these a few keep disks busy, too.
	leastParts = 2
)

// NewReads makes the bound of a process, which all of its replicas share.
func NewReads() *Reads {
	processors := runtime.GOMAXPROCS(0)
	return newReads(max(leastReads, readsPerProcessor*processors), max(leastParts, processors))
}

func newReads(most, parts int) *Reads { return &Reads{gate: fair.New(most), parts: fair.New(parts)} }

// do calls f, which must not wait for anything but storage, when there is a place, and room
// for the response: one that found none would be thrown away, and read again. Hundreds that
// a client has asked for at once have all come here before the first of them shows that.
func (r *Reads) do(ctx context.Context, f func() error) error {
	place := kv.PlaceOf(ctx)
	for {
		if err := enter(ctx, r.gate, place); err != nil {
			return err
		}
		if !place.Crowded() {
			break
		}
		r.gate.Leave()
		if err := place.AwaitRoom(ctx); err != nil {
			return err
		}
	}
	defer r.gate.Leave()
	return f()
}

// turn is do for a part of a large read that has begun, whatever room there is by now: what it has
// read already waits with it. A read that was given up gets no further part.
func (r *Reads) turn(ctx context.Context, f func() error) error {
	if err := enter(ctx, r.parts, kv.PlaceOf(ctx)); err != nil {
		return err
	}
	defer r.parts.Leave()
	if err := ctx.Err(); err != nil {
		return err
	}
	return f()
}

func enter(ctx context.Context, gate *fair.Gate, place kv.Place) error {
	if err := gate.Enter(ctx, place.Client()); err != nil {
		return kv.Errorf(kv.Unavailable, "waiting for other reads: %w", err)
	}
	return nil
}
