package master

import (
	"bytes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/changelog"
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

// Memory is how many bytes a call may find beyond what every call does: the pairs of a
// MultiGet. The server counts what a request brings, and its response.
func (l Limits) Memory(_ string, req any) int64 {
	if r, is := req.(*serverpb.MultiGetRequest); is {
		return int64(min(len(r.GetKeys())*l.Value, l.Response))
	}
	return 0
}

const (
	// longestKey is the greatest max-key-size that may be configured: what is longer was never
	// written.
	longestKey = 1 << 20
	// longestDelete is the longest key that every engine can delete. A longer one is deleted only
	// if it may be written too: a slave with Badger could not apply the change.
	longestDelete = 63 << 10
)

var errNoKey = kv.Errorf(kv.Invalid, "key is empty")

// checkKey checks a key that is to be written.
func (l Limits) checkKey(key []byte) error {
	switch {
	case len(key) == 0:
		return errNoKey
	case len(key) > l.Key:
		return kv.Errorf(kv.Invalid, "key has %d bytes, the limit is %d (max-key-size)", len(key), l.Key)
	default:
		return nil
	}
}

// checkRead rejects what cannot be a key. One that is there may be longer than what may be
// written now: max-key-size may be lowered, and is each node's own.
func checkRead(key []byte) error {
	switch {
	case len(key) == 0:
		return errNoKey
	case len(key) > longestKey:
		return kv.Errorf(kv.Invalid, "key has %d bytes, and no key has more than %d", len(key), longestKey)
	default:
		return nil
	}
}

// checkDelete checks a key that is to be deleted, which may be longer than what may be written now.
func (l Limits) checkDelete(key []byte) error {
	if len(key) <= l.Key || len(key) > longestDelete {
		return l.checkKey(key)
	}
	return l.checkBatch([]kv.Mutation{{Key: key, Delete: true}})
}

// checkExpected checks the value that a compare-and-set expects, which may be larger than what
// may be written now.
func (l Limits) checkExpected(value []byte) error {
	if len(value) > l.Batch {
		return kv.Errorf(kv.Invalid, "oldValue has %d bytes, the limit is %d (max-batch-size)", len(value), l.Batch)
	}
	return nil
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

// checkBatch bounds what a mutation brings, and what it becomes: a record of the
// change stream goes to slaves in one message.
func (l Limits) checkBatch(ms []kv.Mutation) error {
	record := changelog.MessageBytes(ms)
	if bytes := record - len(ms)*changelog.MessageOverhead; bytes > l.Batch {
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

func checkStart(prefix, start []byte) error {
	if len(start) > 0 && !bytes.HasPrefix(start, prefix) {
		return kv.Errorf(kv.Invalid, "startKey %.64q does not begin with keyPrefix %.64q", start, prefix)
	}
	return nil
}
