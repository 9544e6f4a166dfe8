package slave

import (
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/compress"
	"github.com/dkvdb/dkv/internal/kv"
)

// Compress is which masters are asked to compress what they send.
type Compress string

const (
	// CompressAcross asks those of other data centres.
	CompressAcross Compress = "across"
	// CompressAlways asks every master, CompressNever none.
	CompressAlways Compress = "always"
	CompressNever  Compress = "never"
)

// shrinks reports whether the master is to compress what it sends. One of an earlier release
// does not.
func (s *session) shrinks() bool {
	switch s.opts.Compress {
	case CompressAlways:
		return true
	case CompressAcross:
		return s.source.DC != "" && s.source.DC != s.opts.DC
	default:
		return false
	}
}

// grow makes the changes of a response what they were before they were compressed.
func (s *session) grow(resp *serverpb.GetChangesResponse) error {
	packed := resp.GetZstdChanges()
	if len(packed) == 0 {
		return nil
	}
	plain, err := s.unpack(packed)
	if err != nil {
		return err
	}
	var inner serverpb.GetChangesResponse
	if err := proto.Unmarshal(plain, &inner); err != nil {
		return kv.Errorf(kv.Internal, "the master sent changes that cannot be decoded: %w", err)
	}
	resp.Changes, resp.ZstdChanges = inner.GetChanges(), nil
	return nil
}

func (s *session) unpack(packed []byte) ([]byte, error) {
	plain, err := compress.Decode(packed)
	if err != nil {
		return nil, kv.Errorf(kv.Internal, "%w", err)
	}
	s.shrunk.Add(len(plain), len(packed))
	return plain, nil
}
