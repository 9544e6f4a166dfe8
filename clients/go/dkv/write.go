package dkv

import (
	"context"
	"math"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// WriteOption changes a default of a mutation: ExpireAt, TTL, Ack, or a *Answer.
type WriteOption interface {
	applyWrite(writeOptions) writeOptions
}

type writeOptions struct {
	expireTS uint64 // epoch seconds; 0 means never
	ack      Ack
	answer   *Answer
}

// ExpireAt makes the key expire at a time, rounded up to seconds. If that time has
// passed, the key is absent after the write. The zero time is none, as in Value.Expires, so
// that a key can be written back with the expiry that it had.
type ExpireAt time.Time

func (e ExpireAt) applyWrite(o writeOptions) writeOptions {
	o.expireTS = expireTSOf(time.Time(e))
	return o
}

// TTL makes the key expire after a time, counted from now by this machine's clock and
// rounded up to seconds, so that the key lives at least that long.
type TTL time.Duration

func (t TTL) applyWrite(o writeOptions) writeOptions {
	o.expireTS = expireTS(time.Now().Add(time.Duration(t)))
	return o
}

// expireTSOf is expireTS of a time that may be the zero time, which means never.
func expireTSOf(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return expireTS(t)
}

// expireTS converts a time to epoch seconds, rounded up.
func expireTS(t time.Time) uint64 {
	s := t.Unix()
	if t.Nanosecond() > 0 && s < math.MaxInt64 {
		s++
	}
	return uint64(max(1, s)) // 0 means never
}

// expiry converts epoch seconds to a time.
func expiry(ts uint64) time.Time {
	if ts == 0 {
		return time.Time{}
	}
	return time.Unix(int64(min(ts, latest)), 0)
}

// latest is the last second since 1970 that a time.Time can hold, which counts from the
// year 1: a later one would overflow and sort before all others.
const latest = math.MaxInt64 - 62135596800

func writeOptionsOf(opts []WriteOption) (o writeOptions) {
	for _, opt := range opts {
		o = opt.applyWrite(o)
	}
	return o
}

// assignID gives a mutation an id, if the client uses them. finish must be called when the
// mutation will not be sent again.
func (c *Client) assignID(to *request, id *serverpb.RequestID) *serverpb.RequestID {
	if c.sessions == nil {
		return nil
	}
	to.id, to.session = id, c.sessions.begin(id)
	return id
}

func (to *request) finish() {
	if to.session != nil {
		to.session.end(to.id.Sequence)
	}
}

// Each of these holds everything that one call needs, in one allocation.
type (
	putCall struct {
		req  serverpb.PutRequest
		resp serverpb.PutResponse
		id   serverpb.RequestID
		to   request
	}
	deleteCall struct {
		req  serverpb.DeleteRequest
		resp serverpb.DeleteResponse
		id   serverpb.RequestID
		to   request
	}
	casCall struct {
		req  serverpb.CompareAndSetRequest
		resp serverpb.CompareAndSetResponse
		id   serverpb.RequestID
		to   request
	}
	incrementCall struct {
		req  serverpb.IncrementRequest
		resp serverpb.IncrementResponse
		id   serverpb.RequestID
		to   request
	}
)

// Put sets a key and returns the log index of the write. The value may be empty;
// the key may not.
func (c *Client) Put(ctx context.Context, key, value []byte, opts ...WriteOption) (index uint64, err error) {
	p := new(putCall)
	o := writeOptionsOf(opts)
	p.req.Key, p.req.Value, p.req.ExpireTS, p.req.Ack = key, value, o.expireTS, c.ackOf(o)
	p.to = request{method: serverpb.DKV_Put_FullMethodName, key: key, mutates: true}
	p.req.RequestId = c.assignID(&p.to, &p.id)
	err = c.call(ctx, &p.to, &p.req, &p.resp)
	p.to.finish()
	o.fill(&p.resp, err)
	return p.resp.GetIndex(), err
}

// PutTTL is Put of a key that expires after a time, rounded up to seconds.
func (c *Client) PutTTL(ctx context.Context, key, value []byte, ttl time.Duration) (index uint64, err error) {
	return c.Put(ctx, key, value, TTL(ttl))
}

// Delete removes a key and returns the log index of the write. Deleting a key that does
// not exist is not an error.
func (c *Client) Delete(ctx context.Context, key []byte) (index uint64, err error) {
	d := new(deleteCall)
	d.req.Key, d.req.Ack = key, c.ackOf(writeOptions{})
	d.to = request{method: serverpb.DKV_Delete_FullMethodName, key: key, mutates: true}
	d.req.RequestId = c.assignID(&d.to, &d.id)
	err = c.call(ctx, &d.to, &d.req, &d.resp)
	d.to.finish()
	return d.resp.GetIndex(), err
}

// CompareAndSet sets a key to a new value if it holds the old one, and reports whether
// it did. An empty old value matches a key that is absent or empty.
func (c *Client) CompareAndSet(ctx context.Context, key, old, value []byte, opts ...WriteOption) (updated bool, index uint64, err error) {
	p := new(casCall)
	o := writeOptionsOf(opts)
	p.req.Key, p.req.OldValue, p.req.NewValue, p.req.ExpireTS, p.req.Ack = key, old, value, o.expireTS, c.ackOf(o)
	p.to = request{method: serverpb.DKV_CompareAndSet_FullMethodName, key: key, mutates: true}
	p.req.RequestId = c.assignID(&p.to, &p.id)
	err = c.call(ctx, &p.to, &p.req, &p.resp)
	p.to.finish()
	o.fill(&p.resp, err)
	return p.resp.GetUpdated(), p.resp.GetIndex(), err
}

// Increment adds delta to a counter and returns the new value. A counter is 8 bytes,
// two's complement, big endian; a key that is absent or empty counts as 0. Any other
// value fails with ErrPrecondition, as does a sum outside the range of int64. Without an
// option the key keeps its expiry.
func (c *Client) Increment(ctx context.Context, key []byte, delta int64, opts ...WriteOption) (value int64, index uint64, err error) {
	p := new(incrementCall)
	o := writeOptionsOf(opts)
	p.req.Key, p.req.Delta, p.req.ExpireTS, p.req.Ack = key, delta, o.expireTS, c.ackOf(o)
	p.to = request{method: serverpb.DKV_Increment_FullMethodName, key: key, mutates: true}
	p.req.RequestId = c.assignID(&p.to, &p.id)
	err = c.call(ctx, &p.to, &p.req, &p.resp)
	p.to.finish()
	o.fill(&p.resp, err)
	return p.resp.GetValue(), p.resp.GetIndex(), err
}
