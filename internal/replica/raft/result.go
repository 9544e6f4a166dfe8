package raft

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/lni/dragonboat/v4/statemachine"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// The state machine returns results through Dragonboat: the code in the highest byte of
// Value, the index in the others. Data is empty, except for a counter or the previous
// epoch.
const (
	resultIndexBits = 56
	resultIndexMask = 1<<resultIndexBits - 1
	// storageFailed takes the place of the code: the entry is in the log, but this replica
	// did not apply it.
	storageFailed = 0xff
)

func packResult(r command.Result) statemachine.Result {
	out := statemachine.Result{Value: uint64(r.Code)<<resultIndexBits | r.Index&resultIndexMask}
	switch {
	case r.Previous != nil:
		out.Data = binary.BigEndian.AppendUint64(nil, r.Previous.ID)
		out.Data = binary.BigEndian.AppendUint64(out.Data, r.Previous.Term)
		out.Data = binary.BigEndian.AppendUint64(out.Data, r.Previous.Owner)
		out.Data = binary.BigEndian.AppendUint64(out.Data, r.Previous.Nonce)
		out.Data = binary.BigEndian.AppendUint64(out.Data, uint64(r.Previous.Lease))
		out.Data = binary.BigEndian.AppendUint64(out.Data, uint64(r.Previous.Earlier))
		if r.Previous.Ended {
			out.Data = append(out.Data, 1)
		} else {
			out.Data = append(out.Data, 0)
		}
	case r.Counter != 0:
		out.Data = binary.BigEndian.AppendUint64(nil, uint64(r.Counter))
	}
	return out
}

// unpackResult returns what packResult was given, and whether the entry was applied.
func unpackResult(in statemachine.Result) (r command.Result, applied bool, err error) {
	code := in.Value >> resultIndexBits
	if code == storageFailed {
		return r, false, nil
	}
	r = command.Result{Code: command.Code(code), Index: kv.Index(in.Value & resultIndexMask)}
	switch u64 := func(i int) uint64 { return binary.BigEndian.Uint64(in.Data[8*i:]) }; len(in.Data) {
	case 0:
	case 8:
		r.Counter = int64(u64(0))
	case 6*8 + 1:
		r.Previous = &command.Epoch{
			ID: u64(0), Term: u64(1), Owner: u64(2), Nonce: u64(3), Ended: in.Data[6*8] == 1,
			Lease: time.Duration(u64(4)), Earlier: time.Duration(u64(5)),
		}
	default:
		return r, false, fmt.Errorf("a result of %d bytes", len(in.Data))
	}
	return r, true, nil
}
