package layout

import (
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// MemberKey returns the key of a member's record.
func MemberKey(id uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), PrefixMember...), id)
}

// ReadMembers returns the records of the log's replicas by id.
func ReadMembers(r storage.Reader) (map[uint64][]byte, error) {
	members := make(map[uint64][]byte)
	it := r.Iterate(storage.Meta, storage.Prefix(PrefixMember))
	defer it.Close()
	for it.Next() {
		key := it.Key()
		if len(key) != len(PrefixMember)+8 {
			return nil, fmt.Errorf("%w: member record %x", storage.ErrCorrupt, key)
		}
		members[binary.BigEndian.Uint64(key[len(PrefixMember):])] = append([]byte(nil), it.Value()...)
	}
	return members, it.Err()
}

// ListedSlave is an entry of the list of slaves.
type ListedSlave struct {
	command.Slave
	// Renewed is the log's clock when the slave was last added, and 0 if that was done by
	// a release that did not record it.
	Renewed kv.Clock
}

// SlaveKey returns the key of a slave, which is encoded as in command.SetSlave.
func SlaveKey(slave []byte) []byte { return append(append([]byte(nil), PrefixSlave...), slave...) }

// PutSlave adds a slave to the list, or replaces it.
func PutSlave(b *storage.Batch, key []byte, renewed kv.Clock) {
	if renewed == 0 {
		b.Put(storage.Meta, key)
		return
	}
	b.Put(storage.Meta, key, binary.BigEndian.AppendUint64(nil, uint64(renewed)))
}

// PutSlaves adds slaves to the list.
func PutSlaves(b *storage.Batch, slaves []ListedSlave) {
	for _, s := range slaves {
		PutSlave(b, SlaveKey(s.Append(nil)), s.Renewed)
	}
}

// ReadSlaves returns the list of slaves in the order of zone and address.
func ReadSlaves(r storage.Reader) ([]ListedSlave, error) {
	it := r.Iterate(storage.Meta, storage.Prefix(PrefixSlave))
	defer it.Close()
	var out []ListedSlave
	for it.Next() {
		s, err := parseSlave(it.Key()[len(PrefixSlave):], it.Value())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
		}
		out = append(out, s)
	}
	return out, it.Err()
}

func parseSlave(slave, renewed []byte) (ListedSlave, error) {
	s, err := command.ParseSlave(slave)
	switch {
	case err != nil:
		return ListedSlave{}, err
	case len(renewed) == 0:
		return ListedSlave{Slave: s}, nil
	case len(renewed) != 8:
		return ListedSlave{}, fmt.Errorf("slave %s has a time of %d bytes", s.Address, len(renewed))
	}
	return ListedSlave{Slave: s, Renewed: kv.Clock(binary.BigEndian.Uint64(renewed))}, nil
}
