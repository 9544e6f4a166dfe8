package master

import (
	"bytes"
	"encoding/base64"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
)

// batchBytes is the size that the messages of a batched iteration grow to.
const batchBytes = 64 << 10

// Iterate implements DKV.
func (s *KV) Iterate(r *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	opts, err := readOptions(r)
	if err != nil {
		return err
	}
	if err := checkStart(r.GetKeyPrefix(), r.GetStartKey()); err != nil {
		return err
	}
	if err := checkCluster(s.keyspace.All()[0], r.GetCluster()); err != nil {
		return err
	}
	vBuckets, err := s.keyspace.Requested(stream.Context())
	if err != nil {
		return err
	}
	if err := checkIndex(opts, vBuckets); err != nil {
		return err
	}
	walk, err := s.open(stream.Context(), r, opts, vBuckets)
	if err != nil {
		return err
	}
	defer walk.Close()
	if only := walk.remote(); only != nil {
		resumable(stream, &only.msg)
		return only.relay(stream)
	}
	send := sender(sendSingly)
	if r.GetBatched() {
		send = sendBatched
	}
	it := walk.iterator(r.GetReverse())
	if !walk.local() {
		// Other nodes bound what they make, and are waited for.
		return send(boundedStream{stream, &making{ctx: stream.Context()}, walk.held}, it, r, walk.info)
	}
	return bounded(s.making, stream, it, r, walk, send)
}

// sender sends the pairs of an iteration.
type sender func(grpc.ServerStreamingServer[serverpb.IterateResponse], iterator, *serverpb.IterateRequest, kv.ReadInfo) error

// bounded sends pairs of this node; each message is made within a place of the gate.
func bounded(gate *fair.Gate, stream grpc.ServerStreamingServer[serverpb.IterateResponse], it iterator, r *serverpb.IterateRequest, w *walk, send sender) error {
	m := &making{gate: gate, ctx: stream.Context()}
	defer m.end()
	return send(boundedStream{stream, m, w.held}, boundedPairs{it, m}, r, w.info)
}

// resumable registers where to resume an iteration that is ended while a message is being sent:
// at the first key of that message. resp holds each of the messages in turn.
func resumable(stream grpc.ServerStreamingServer[serverpb.IterateResponse], resp *serverpb.IterateResponse) {
	kv.PlaceOf(stream.Context()).Resumable(func() kv.Resume {
		key := resp.GetKey()
		if pairs := resp.GetPairs(); len(pairs) > 0 {
			key = pairs[0].GetKey()
		}
		return kv.Resume{kv.ResumeStartKey: base64.StdEncoding.EncodeToString(key)}
	})
}

func iterateRange(r *serverpb.IterateRequest) storage.Range {
	// Not KeysOnly, even if no values are wanted: the bytes before a value say whether
	// the key has expired.
	out := storage.Prefix(r.GetKeyPrefix())
	out.Reverse = r.GetReverse()
	switch start := r.GetStartKey(); {
	case len(start) == 0:
	case out.Reverse:
		out.End = append(bytes.Clone(start), 0) // the least key after it
	default:
		out.Start = start
	}
	return out
}

// The slices of a pair are valid until the iterator moves, which is after Send
// has encoded them: nothing has to be copied.

func sendSingly(stream grpc.ServerStreamingServer[serverpb.IterateResponse], it iterator, r *serverpb.IterateRequest, info kv.ReadInfo) error {
	resp := &serverpb.IterateResponse{Status: &serverpb.Status{}, Index: info.Index, Age: ageMillis(info)}
	resumable(stream, resp)
	for n := uint64(0); (r.GetLimit() == 0 || n < r.GetLimit()) && it.Next(); n++ {
		p := it.Pair()
		resp.Key, resp.Value, resp.ExpireTS = p.Key, p.Value, p.ExpireTS
		if r.GetKeysOnly() {
			resp.Value = nil
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
	return replica.ReadError(it.Err())
}

func sendBatched(stream grpc.ServerStreamingServer[serverpb.IterateResponse], it iterator, r *serverpb.IterateRequest, info kv.ReadInfo) error {
	b := pairBatch{resp: serverpb.IterateResponse{Status: &serverpb.Status{}, Index: info.Index, Age: ageMillis(info)}}
	resumable(stream, &b.resp)
	for n := uint64(0); (r.GetLimit() == 0 || n < r.GetLimit()) && it.Next(); n++ {
		p := it.Pair()
		if r.GetKeysOnly() {
			p.Value = nil
		}
		if b.size > 0 && b.size+pairSize(p) > batchBytes {
			if err := stream.Send(&b.resp); err != nil {
				return err
			}
			b.reset()
		}
		if pairSize(p) <= batchBytes {
			b.add(p)
		} else if err := b.sendAlone(stream, p); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return replica.ReadError(err)
	}
	if len(b.resp.Pairs) == 0 {
		return nil
	}
	return stream.Send(&b.resp)
}

// pairBatch is one message of many pairs, of batchBytes at most. A larger pair travels alone, so
// that no message is larger than in an iteration that is not batched. The iterator advances
// before the message is sent, so that the bytes are copied into buf. Those of a pair that travels
// alone are not copied: a stream whose reader stalls does not hold them twice.
type pairBatch struct {
	resp serverpb.IterateResponse
	buf  []byte
	size int
	// pairs are the messages of resp.Pairs, reused for each batch.
	pairs []*serverpb.KVPair
}

func (b *pairBatch) add(p kv.Pair) {
	n := len(b.resp.Pairs)
	if n == len(b.pairs) {
		b.pairs = append(b.pairs, &serverpb.KVPair{})
	}
	out := b.pairs[n]
	out.Key, out.Value, out.ExpireTS = b.copy(p.Key), b.copy(p.Value), p.ExpireTS
	b.resp.Pairs = append(b.resp.Pairs, out)
	b.size += pairSize(p)
}

func (b *pairBatch) copy(p []byte) []byte {
	from := len(b.buf)
	// When buf grows it is moved, but what earlier pairs point to stays as it is.
	b.buf = append(b.buf, p...)
	return b.buf[from:len(b.buf):len(b.buf)]
}

// sendAlone sends a large pair while the batch is empty and the iterator stands on it.
func (b *pairBatch) sendAlone(stream grpc.ServerStreamingServer[serverpb.IterateResponse], p kv.Pair) error {
	b.resp.Pairs = append(b.resp.Pairs, &serverpb.KVPair{Key: p.Key, Value: p.Value, ExpireTS: p.ExpireTS})
	defer b.reset()
	return stream.Send(&b.resp)
}

func (b *pairBatch) reset() {
	b.buf, b.size = b.buf[:0], 0
	b.resp.Pairs = b.resp.Pairs[:0]
}
