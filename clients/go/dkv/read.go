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

// ReadOption changes what a read does by default.
type ReadOption interface {
	applyRead(readOptions) readOptions
}

type readOptions struct {
	level    Level
	minIndex uint64
	maxAge   time.Duration
}

func (l Level) applyRead(o readOptions) readOptions { o.level = l; return o }

// MinIndex makes a sequential read wait until the replica has applied this index,
// which a write of the same key, or of its vBucket, has returned.
type MinIndex uint64

func (i MinIndex) applyRead(o readOptions) readOptions { o.minIndex = uint64(i); return o }

// MaxAge makes a sequential read refuse a state of which it is not known that it
// was the newest so long ago, in whole milliseconds, one at least.
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

// maxAgeMillis is as the wire wants it: 0 accepts any age.
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
	// Age is how long ago the answering state is known to have been the newest;
	// 0 at the leader.
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

// Get reads a key. Its error is ErrNotFound where the key does not exist or has
// expired; Value.Index and Age are then set all the same.
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
	// A server of the original kind never says found: a value shows it.
	if !g.resp.GetFound() && len(out.Bytes) == 0 {
		return out, &Error{Kind: ErrNotFound, Err: errMissing}
	}
	return out, nil
}

var errMissing = errors.New("the key does not exist")
