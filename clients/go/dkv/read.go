package dkv

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Level is the consistency of a read. It is a ReadOption.
type Level uint8

const (
	// Linearizable reads see every write that was acknowledged before they began.
	// They are answered by leaders; this is the default.
	Linearizable Level = iota
	// Sequential reads are answered by the nearest replica, which may lag.
	Sequential
)

// ReadOption changes a default of a read: Level, MinIndex or MaxAge.
type ReadOption interface {
	applyRead(readOptions) readOptions
}

type readOptions struct {
	level    Level
	minIndex uint64
	maxAge   time.Duration
}

func (l Level) applyRead(o readOptions) readOptions { o.level = l; return o }

// MinIndex makes a sequential read wait until the replica has applied this index, which
// an earlier write of the same key, or of the same vBucket, has returned.
type MinIndex uint64

func (i MinIndex) applyRead(o readOptions) readOptions { o.minIndex = uint64(i); return o }

// MaxAge bounds how stale the state of a sequential read may be: the replica must have
// been up to date within this time, in whole milliseconds, at least one.
type MaxAge time.Duration

func (a MaxAge) applyRead(o readOptions) readOptions { o.maxAge = time.Duration(a); return o }

func readOptionsOf(opts []ReadOption) (o readOptions) {
	for _, opt := range opts {
		o = opt.applyRead(o)
	}
	return o
}

func (o readOptions) consistency() serverpb.ReadConsistency {
	if o.level == Sequential {
		return serverpb.ReadConsistency_SEQUENTIAL
	}
	return serverpb.ReadConsistency_LINEARIZABLE
}

// maxAgeMillis returns the age as the protocol has it: 0 accepts any age.
func (o readOptions) maxAgeMillis() uint64 {
	if o.maxAge <= 0 {
		return 0
	}
	return uint64(max(1, o.maxAge.Milliseconds()))
}

// Value is what a key holds.
type Value struct {
	Bytes []byte
	// Expires is when the key expires; the zero time means never.
	Expires time.Time
	// Index is the log index that the answer reflects.
	Index uint64
	// Age bounds how stale the answer is: so long ago, the replica is known to have
	// been up to date. It is 0 at the leader.
	Age time.Duration
}

// Pair is a key with its value.
type Pair struct {
	Key, Value []byte
	// Expires is when the key expires, in whole seconds; the zero time means
	// never.
	Expires time.Time
}

type getCall struct {
	req  serverpb.GetRequest
	resp serverpb.GetResponse
	to   request
}

// Get reads a key. Its error is ErrNotFound if the key does not exist or has expired;
// Value.Index and Value.Age are set even then.
func (c *Client) Get(ctx context.Context, key []byte, opts ...ReadOption) (Value, error) {
	o := readOptionsOf(opts)
	g := new(getCall)
	g.req.Key, g.req.ReadConsistency, g.req.MinIndex, g.req.MaxAge = key, o.consistency(), o.minIndex, o.maxAgeMillis()
	g.to = request{method: serverpb.DKV_Get_FullMethodName, key: key, sequential: o.level == Sequential}
	if err := c.call(ctx, &g.to, &g.req, &g.resp); err != nil {
		return Value{}, err
	}
	out := Value{
		Bytes:   g.resp.GetValue(),
		Expires: expiry(g.resp.GetExpireTS()),
		Index:   g.resp.GetIndex(),
		Age:     time.Duration(g.resp.GetAge()) * time.Millisecond,
	}
	// The first servers do not set found; a value shows that the key exists.
	if !g.resp.GetFound() && len(out.Bytes) == 0 {
		return out, &Error{Kind: ErrNotFound, Err: errMissing}
	}
	return out, nil
}

var errMissing = errors.New("the key does not exist")
