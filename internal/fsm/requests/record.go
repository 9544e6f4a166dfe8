package requests

import (
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// How the table is stored in storage.Meta. Integers in keys are big endian.
//
//	"request/", index (8)   -> the result of the request at a log index
//	"session/", client (8)  -> the session of a client
//	"lost-sessions"         -> Table.lost (8)
var (
	prefixEntry   = []byte("request/")
	prefixSession = []byte("session/")
	keyLost       = []byte("lost-sessions")
)

const (
	entryVersion   = 1
	sessionVersion = 1
	sessionLen     = 1 + 5*8

	// What an entry and a session take besides their records, mostly in memory.
	entryOverhead = 192
	sessionBytes  = 384
)

// entryBytes returns the size of an entry as the bounds count it.
func entryBytes(record []byte) int {
	return len(prefixEntry) + 8 + len(record) + entryOverhead
}

func appendEntryKey(dst []byte, index kv.Index) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefixEntry...), index)
}

func appendSessionKey(dst []byte, client uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefixSession...), client)
}

func appendClock(dst []byte, c kv.Clock) []byte { return binary.BigEndian.AppendUint64(dst, uint64(c)) }

func (e *entry) append(dst []byte) []byte {
	dst = append(dst, entryVersion)
	dst = binary.LittleEndian.AppendUint64(dst, e.name.client)
	dst = binary.AppendUvarint(dst, e.name.sequence)
	dst = binary.AppendUvarint(dst, e.acked)
	dst = binary.AppendUvarint(dst, uint64(e.clock))
	dst = binary.LittleEndian.AppendUint64(dst, e.print)
	return command.AppendResult(dst, e.result)
}

func decodeEntry(p []byte) (*entry, error) {
	bad := fmt.Errorf("%w: request record", storage.ErrCorrupt)
	if len(p) > 0 && p[0] > entryVersion {
		return nil, storage.Newer("a request record", uint64(p[0]), entryVersion)
	}
	if len(p) < 9 || p[0] != entryVersion {
		return nil, bad
	}
	e := &entry{bytes: entryBytes(p)}
	e.name.client = binary.LittleEndian.Uint64(p[1:])
	p = p[9:]
	clock := uint64(0)
	for _, field := range []*uint64{&e.name.sequence, &e.acked, &clock} {
		v, n := binary.Uvarint(p)
		if n <= 0 {
			return nil, bad
		}
		*field, p = v, p[n:]
	}
	if len(p) < 8 {
		return nil, bad
	}
	e.clock, e.print, p = kv.Clock(clock), binary.LittleEndian.Uint64(p), p[8:]
	var err error
	if e.result, err = command.DecodeResult(p); err != nil {
		return nil, fmt.Errorf("%w: %w", bad, err)
	}
	return e, nil
}

func (s *session) append(dst []byte) []byte {
	dst = append(dst, sessionVersion)
	for _, field := range [...]uint64{s.acked, s.forgotten, s.used, uint64(s.clock), uint64(s.lost)} {
		dst = binary.BigEndian.AppendUint64(dst, field)
	}
	return dst
}

func decodeSession(key, p []byte) (*session, error) {
	if len(p) > 0 && p[0] > sessionVersion {
		return nil, storage.Newer(fmt.Sprintf("session record of %x", key), uint64(p[0]), sessionVersion)
	}
	if len(key) != len(prefixSession)+8 || len(p) != sessionLen || p[0] != sessionVersion {
		return nil, fmt.Errorf("%w: session record of %x", storage.ErrCorrupt, key)
	}
	field := func(i int) uint64 { return binary.BigEndian.Uint64(p[1+8*i:]) }
	return &session{
		client: binary.BigEndian.Uint64(key[len(prefixSession):]),
		acked:  field(0), forgotten: field(1), used: field(2),
		clock: kv.Clock(field(3)), lost: kv.Clock(field(4)),
	}, nil
}
