package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Snapshot is a snapshot that one member offers to another.
type Snapshot struct {
	// Shard and Replica are the receiver's, From is the sender's.
	Shard, Replica, From uint64
	// Index is the log entry that the state reflects.
	Index uint64
	// Size is about what will be sent, in bytes.
	Size uint64
}

// Receiver decides about the snapshots that are offered to this node.
type Receiver interface {
	// Admit returns an error, which the sender is told, for a snapshot that cannot be
	// taken. It may wait until ctx ends for that to change.
	Admit(ctx context.Context, s Snapshot) (Admission, error)
}

// Admission is a snapshot that is being taken.
type Admission interface {
	// More is asked before each n further bytes are written. The error ends it.
	More(n int) error
	// Done says that no more comes; whole is whether everything did.
	Done(whole bool)
}

// takeAll takes every snapshot.
type takeAll struct{}

func (takeAll) Admit(context.Context, Snapshot) (Admission, error) { return takeAll{}, nil }
func (takeAll) More(int) error                                     { return nil }
func (takeAll) Done(bool)                                          {}

const offerSize = 5 * 8

func (s Snapshot) encode(p []byte) []byte {
	for _, n := range []uint64{s.Shard, s.Replica, s.From, s.Index, s.Size} {
		p = binary.BigEndian.AppendUint64(p, n)
	}
	return p
}

func decodeOffer(p []byte) (Snapshot, error) {
	if len(p) != offerSize {
		return Snapshot{}, fmt.Errorf("the offer of a snapshot has %d bytes, not %d", len(p), offerSize)
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(p[8*i:]) }
	return Snapshot{Shard: at(0), Replica: at(1), From: at(2), Index: at(3), Size: at(4)}, nil
}

// A verdict is one byte, 1 for yes, and why not.

func encodeVerdict(p []byte, refused error) []byte {
	if refused == nil {
		return append(p, 1)
	}
	text := refused.Error()
	return append(append(p, 0), text[:min(len(text), most[verdictFrame]-1)]...)
}

func decodeVerdict(p []byte) (refused error, _ error) {
	switch {
	case len(p) == 1 && p[0] == 1:
		return nil, nil
	case len(p) > 0 && p[0] == 0:
		return errors.New(string(p[1:])), nil
	}
	return nil, errors.New("the receiver of a snapshot answers what this release does not understand")
}
