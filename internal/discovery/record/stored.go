package record

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Prefix begins the stored keys of all records, beside those of rows.
const Prefix = "record/"

func keyOf(database string) []byte { return []byte(Prefix + database) }

// stored is what is stored of a record.
type stored struct {
	record *peerpb.Record
	// number rises with each change, and each time that a node of the registry takes the
	// record.
	number uint64
	// longest is the longest lease that may still run: a shorter one counts for the next
	// owner of the registry only once those before it have ended.
	longest time.Duration
	// raw is the encoding that was read.
	raw []byte
}

func (s *stored) lease() time.Duration {
	return time.Duration(s.record.GetLeaseMillis()) * time.Millisecond
}

const (
	layoutVersion = 1
	headerSize    = 1 + 8 + 8
)

// encode returns the stored form: the version of the layout, the number, the longest lease
// in milliseconds, and the record.
func (s *stored) encode() ([]byte, error) {
	out := make([]byte, 0, headerSize+proto.Size(s.record))
	out = append(out, layoutVersion)
	out = binary.BigEndian.AppendUint64(out, s.number)
	out = binary.BigEndian.AppendUint64(out, uint64(s.longest.Milliseconds()))
	out, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(out, s.record)
	if err != nil {
		return nil, kv.Errorf(kv.Internal, "encode the record of database %q: %w", s.record.GetDatabase(), err)
	}
	s.raw = out
	return out, nil
}

// Decode reads the record that is stored at a key.
func Decode(key, value []byte) (*peerpb.Record, error) {
	s, err := decode(strings.TrimPrefix(string(key), Prefix), value)
	if err != nil {
		return nil, err
	}
	return s.record, nil
}

// decode reads what encode returns. Of what is damaged it returns the bytes, with an error.
func decode(database string, raw []byte) (*stored, error) {
	damaged := func(why string) (*stored, error) {
		return &stored{raw: bytes.Clone(raw)}, kv.Errorf(kv.Corrupt, "the record of database %q cannot be read: %s; no lease is granted until it is made again: dkvctl -claim", database, why)
	}
	switch {
	case len(raw) < headerSize:
		return damaged("it is too short")
	case raw[0] > layoutVersion:
		return &stored{raw: bytes.Clone(raw)}, kv.Errorf(kv.Precondition, "the record of database %q: %w",
			database, storage.Newer("it", uint64(raw[0]), layoutVersion))
	case raw[0] != layoutVersion:
		return damaged("its layout is 0")
	}
	s := &stored{
		number:  binary.BigEndian.Uint64(raw[1:]),
		longest: time.Duration(binary.BigEndian.Uint64(raw[9:])) * time.Millisecond,
		record:  new(peerpb.Record),
		raw:     bytes.Clone(raw),
	}
	if err := proto.Unmarshal(raw[headerSize:], s.record); err != nil {
		return damaged(err.Error())
	}
	if s.record.GetDatabase() != database || s.longest < s.lease() {
		return damaged("its parts contradict each other")
	}
	return s, nil
}
