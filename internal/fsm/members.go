package fsm

import (
	"encoding/binary"
	"fmt"
	"maps"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/storage"
)

// Members returns the records of the log's replicas by id. The caller must not change the
// map.
func (m *Machine) Members() map[uint64][]byte { return *m.members.Load() }

func (tx *tx) setMember(member *command.Member) {
	if tx.members == nil {
		tx.members = maps.Clone(tx.m.Members())
	}
	key := memberKey(member.ID)
	if len(member.Record) == 0 {
		tx.batch.Delete(storage.Meta, key)
		delete(tx.members, member.ID)
		return
	}
	tx.batch.Put(storage.Meta, key, member.Record)
	tx.members[member.ID] = append([]byte(nil), member.Record...)
}

func memberKey(id uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), prefixMember...), id)
}

func loadMembers(r storage.Reader) (map[uint64][]byte, error) {
	members := make(map[uint64][]byte)
	it := r.Iterate(storage.Meta, storage.Prefix(prefixMember))
	defer it.Close()
	for it.Next() {
		key := it.Key()
		if len(key) != len(prefixMember)+8 {
			return nil, fmt.Errorf("%w: member record %x", storage.ErrCorrupt, key)
		}
		members[binary.BigEndian.Uint64(key[len(prefixMember):])] = append([]byte(nil), it.Value()...)
	}
	return members, it.Err()
}
