package master

import (
	"bytes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// Limits bound what one request may carry, in bytes.
type Limits struct {
	Key, Value int
	// Batch bounds the keys and values of one mutation together.
	Batch int
	// Response bounds the keys and values that one MultiGet returns, and what one
	// mutation may come to as a record of the change stream.
	Response int
}

// Memory is how many bytes a call may find beyond what every call does: a MultiGet,
// or a GetChanges, whose changes are there both as records and encoded. What a request
// brings, and its response, the server counts. Streams bound themselves: see transit.
func (l Limits) Memory(_ string, req any) int64 {
	switch r := req.(type) {
	case *serverpb.MultiGetRequest:
		return int64(min(len(r.GetKeys())*l.Value, l.Response))
	case *serverpb.GetChangesRequest:
		return 2 * maxChangesBytes
	default:
		return 0
	}
}

func (l Limits) checkKey(key []byte) error {
	switch {
	case len(key) == 0:
		return kv.Errorf(kv.Invalid, "key is empty")
	case len(key) > l.Key:
		return kv.Errorf(kv.Invalid, "key has %d bytes, the limit is %d (max-key-size)", len(key), l.Key)
	default:
		return nil
	}
}

func (l Limits) checkPair(key, value []byte) error {
	if err := l.checkKey(key); err != nil {
		return err
	}
	if len(value) > l.Value {
		return kv.Errorf(kv.Invalid, "value of key %.64q has %d bytes, the limit is %d (max-value-size)", key, len(value), l.Value)
	}
	return nil
}

// mutationOverhead is the most that a mutation of a change record has around its key
// and value.
const mutationOverhead = 32

// recordBytes is the most that mutations take as a record of the change stream.
func recordBytes(ms []kv.Mutation) int {
	n := len(ms) * mutationOverhead
	for i := range ms {
		n += len(ms[i].Key) + len(ms[i].Value)
	}
	return n
}

// checkBatch bounds what a mutation brings, and what it becomes: a record of the
// change stream goes to slaves in one message.
func (l Limits) checkBatch(ms []kv.Mutation) error {
	record := recordBytes(ms)
	if bytes := record - len(ms)*mutationOverhead; bytes > l.Batch {
		return kv.Errorf(kv.Invalid, "the request has %d bytes of keys and values, the limit is %d (max-batch-size); split it", bytes, l.Batch)
	}
	if record > l.Response {
		return kv.Errorf(kv.Invalid,
			"the request has %d puts, and with them a change of up to %d bytes, the limit is %d (max-message-size); split it", len(ms), record, l.Response)
	}
	return nil
}

// requestID checks and converts the id of a mutation.
func requestID(id *serverpb.RequestID) (kv.RequestID, error) {
	if id.GetClientId() == 0 {
		if id.GetSequence() != 0 || id.GetAcked() != 0 || id.GetRepeat() {
			return kv.RequestID{}, kv.Errorf(kv.Invalid, "requestId has a sequence but no clientId")
		}
		return kv.RequestID{}, nil
	}
	out := kv.RequestID{Client: id.GetClientId(), Sequence: id.GetSequence(), Acked: id.GetAcked(), Repeat: id.GetRepeat()}
	if out.Sequence == 0 {
		return out, kv.Errorf(kv.Invalid, "requestId has no sequence; it counts from 1")
	}
	if out.Acked >= out.Sequence {
		return out, kv.Errorf(kv.Invalid, "requestId acknowledges sequence %d, which is not before its own, %d", out.Acked, out.Sequence)
	}
	return out, nil
}

// readRequest is what all reads have in common.
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

// checkIndex refuses to wait for an index where it could be that of any of several
// logs.
func checkIndex(opts kv.ReadOptions, vBuckets []VBucket) error {
	if opts.MinIndex != 0 && len(vBuckets) > 1 {
		return kv.Errorf(kv.Invalid, "minIndex is an index of one vBucket, and the request is about %d; leave it out, or use LINEARIZABLE", len(vBuckets))
	}
	return nil
}

func checkStart(prefix, start []byte) error {
	if len(start) > 0 && !bytes.HasPrefix(start, prefix) {
		return kv.Errorf(kv.Invalid, "startKey %.64q does not begin with keyPrefix %.64q", start, prefix)
	}
	return nil
}
