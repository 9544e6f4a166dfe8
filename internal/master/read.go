package master

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/storage"
)

// readRequest is the part of a request that all reads share.
type readRequest interface {
	GetReadConsistency() serverpb.ReadConsistency
	GetMinIndex() uint64
	GetMaxAge() uint64
}

func readOptions(r readRequest) (kv.ReadOptions, error) {
	opts := kv.ReadOptions{MinIndex: r.GetMinIndex(), MaxAge: millis(r.GetMaxAge())}
	switch c := r.GetReadConsistency(); c {
	case serverpb.ReadConsistency_SEQUENTIAL:
		opts.Level = kv.Sequential
	case serverpb.ReadConsistency_LINEARIZABLE:
		opts.Level = kv.Linearizable
	default:
		return opts, kv.Errorf(kv.Invalid, "readConsistency %d is unknown; use SEQUENTIAL (0) or LINEARIZABLE (1)", c)
	}
	return opts, nil
}

// read answers a read of one vBucket: a linearizable one at the vBucket's owner, any other
// here.
func read[Resp any](ctx context.Context, router *route.Router, v route.VBucket, c route.Call, r any, opts kv.ReadOptions, here func(context.Context) (*Resp, error)) (*Resp, error) {
	inTime := func(ctx context.Context) (*Resp, error) {
		ctx, cancel := answerable(ctx, opts)
		defer cancel()
		return here(ctx)
	}
	if opts.Level != kv.Linearizable {
		return inTime(ctx)
	}
	return route.AtOwner(ctx, router, v, c, r, inTime)
}

// readLegs answers a read of several vBuckets, each from one state: a linearizable one from
// their owners, any other from this node. serve reads the legs; its errors are those of
// route.Local and route.Call.Remote.
func readLegs(ctx context.Context, router *route.Router, vBuckets []route.VBucket, c route.Call, opts kv.ReadOptions, serve func(context.Context, []route.Leg) (done bool, err error)) error {
	if opts.Level != kv.Linearizable {
		ctx, cancel := answerable(ctx, opts)
		defer cancel()
		_, err := serve(ctx, []route.Leg{route.Here(vBuckets...)})
		return err
	}
	ctx, cancel := route.BeforeDeadline(ctx)
	defer cancel()
	return router.EachOwner(ctx, c, vBuckets, func(legs []route.Leg) (bool, error) { return serve(ctx, legs) })
}

// answerable shortens the deadline of a read that may have to wait for its index or age.
func answerable(ctx context.Context, opts kv.ReadOptions) (context.Context, context.CancelFunc) {
	if opts.MinIndex == 0 && opts.MaxAge == 0 {
		return ctx, func() {}
	}
	return route.BeforeDeadline(ctx)
}

// viewChunk is how many values of a request are read before their size is checked: a
// request of a few kilobytes may ask for more than the memory holds.
const viewChunk = 64

// readKeys hands the pairs of keys to add, in order and from one state, chunk by chunk if
// they are many or large.
func readKeys(ctx context.Context, v route.VBucket, keys [][]byte, opts kv.ReadOptions, add func([]kv.Pair) error) (kv.ReadInfo, error) {
	if len(keys) <= viewChunk {
		pairs, info, err := v.MultiGet(ctx, keys, opts)
		if err == nil {
			return info, add(pairs)
		}
		if !errors.Is(err, fsm.ErrTooMuch) {
			return info, err
		}
	}
	view, info, err := v.View(ctx, opts)
	if err != nil {
		return info, err
	}
	defer view.Close()
	for n := viewChunk; len(keys) > 0; {
		chunk := keys[:min(len(keys), n)]
		pairs, read, err := view.ReadSome(ctx, chunk)
		if err != nil {
			return info, replica.ReadError(err)
		}
		// Storage reads what is cut off in vain.
		if read < len(chunk) {
			n = read
		} else if 2*bytesOf(pairs) <= storage.MultiGetBytes {
			n = min(2*n, viewChunk)
		}
		keys = keys[read:]
		if err := add(pairs); err != nil {
			return info, err
		}
	}
	return info, nil
}

func bytesOf(pairs []kv.Pair) (n int) {
	for i := range pairs {
		n += len(pairs[i].Value)
	}
	return n
}

// checkIndex rejects a wait for an index that could be that of any of several logs.
func checkIndex(opts kv.ReadOptions, vBuckets []route.VBucket) error {
	if opts.MinIndex != 0 && len(vBuckets) > 1 {
		return kv.Errorf(kv.Invalid, "minIndex is an index of one vBucket, and the request is about %d; leave it out, or use LINEARIZABLE", len(vBuckets))
	}
	return nil
}

func ageMillis(info kv.ReadInfo) uint64 { return uint64(info.Age.Milliseconds()) }

// millis converts a count of milliseconds from the wire, however large.
func millis(n uint64) time.Duration {
	if n > math.MaxInt64/uint64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Millisecond
}
