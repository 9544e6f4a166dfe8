package changelog

import (
	"encoding/binary"

	"github.com/dkvdb/dkv/internal/kv"
)

// RequestBytes is the most that the request of a change takes, in a record or in a message.
const RequestBytes = 64

func appendRequest(dst []byte, r *kv.ChangeRequest) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, r.ID.Client)
	dst = binary.AppendUvarint(dst, r.ID.Sequence)
	dst = binary.AppendUvarint(dst, r.ID.Acked)
	dst = binary.LittleEndian.AppendUint64(dst, r.Fingerprint)
	dst = append(dst, r.Code)
	return binary.AppendVarint(dst, r.Counter)
}

// takeRequest reads what appendRequest has written off the front of p.
func takeRequest(p []byte) (r kv.ChangeRequest, rest []byte, ok bool) {
	if len(p) < 8 {
		return r, nil, false
	}
	r.ID.Client, p = binary.LittleEndian.Uint64(p), p[8:]
	for _, field := range []*uint64{&r.ID.Sequence, &r.ID.Acked} {
		v, n := binary.Uvarint(p)
		if n <= 0 {
			return r, nil, false
		}
		*field, p = v, p[n:]
	}
	if len(p) < 9 || r.ID.Client == 0 {
		return r, nil, false
	}
	r.Fingerprint, r.Code, p = binary.LittleEndian.Uint64(p), p[8], p[9:]
	v, n := binary.Varint(p)
	if n <= 0 {
		return r, nil, false
	}
	r.Counter = v
	return r, p[n:], true
}
