package wal

import (
	"fmt"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// IterateEntries implements raftio.ILogDB: it appends the entries in [low, high) to ents, up
// to the first that is not there, and until size, of all in ents, is over maxSize.
func (l *Log) IterateEntries(ents []pb.Entry, size, shard, replica, low, high, maxSize uint64) ([]pb.Entry, uint64, error) {
	id := raftio.NodeInfo{ShardID: shard, ReplicaID: replica}
	for low < high {
		b, ok := l.find(id, low)
		if !ok {
			break
		}
		had := len(ents)
		var err error
		ents, size, err = b.appendTo(ents, size, low, high, maxSize)
		if err = errorOf(err, b.segment.release()); err != nil {
			return nil, 0, fmt.Errorf("the Raft log of shard %d cannot be read: %w", shard, err)
		}
		if size > maxSize {
			break
		}
		low += uint64(len(ents) - had)
	}
	return ents, size, nil
}

// Durable returns the last entry of a replica's log that is on disk; 0 if it has had none.
func (l *Log) Durable(shard, replica uint64) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.groups[raftio.NodeInfo{ShardID: shard, ReplicaID: replica}]
	if g == nil {
		return 0
	}
	return max(g.next, 1) - 1
}

// find returns a copy of the block that has an index. The caller releases its segment.
func (l *Log) find(id raftio.NodeInfo, index uint64) (block, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.groups[id]
	if g == nil {
		return block{}, false
	}
	i, ok := g.find(index)
	if !ok {
		return block{}, false
	}
	b := *g.blocks[i]
	b.segment.acquire()
	return b, true
}

// appendTo appends those of the block's entries that are in [low, high) to ents.
func (b *block) appendTo(ents []pb.Entry, size, low, high, room uint64) ([]pb.Entry, uint64, error) {
	high = min(high, b.next)
	if len(b.entries) > 0 {
		for i := low - b.entries[0].Index; i < high-b.entries[0].Index; i++ {
			ents = append(ents, b.entries[i])
			if size += uint64(b.entries[i].SizeUpperLimit()); size > room {
				break
			}
		}
		return ents, size, nil
	}
	h, err := b.load()
	if err != nil {
		return nil, 0, err
	}
	return h.unpack(ents, low, high, size, room)
}

// load reads the block's record.
func (b *block) load() (header, error) {
	p, err := b.segment.read(b.at, b.length)
	if err != nil {
		return header{}, err
	}
	var h header
	body, rest, err := splitRecord(p)
	if err == nil && len(rest) > 0 {
		err = errDamaged
	}
	if err == nil {
		h, err = decode(body)
	}
	if err == nil && (h.firstEntry > b.first || h.firstEntry+h.count < b.next) {
		err = errDamaged
	}
	if err != nil {
		return header{}, damaged(b.segment, b.at, err.Error())
	}
	return h, nil
}

func errorOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// recent bounds the entries in memory. Those that came first go first.
type recent struct {
	limit, bytes int
	kept         []keptBlock
}

// keptBlock is a block whose entries are in memory, and what they count for, in bytes.
type keptBlock struct {
	block *block
	bytes int
}

// add keeps a block's entries in memory, unless they are too large.
func (r *recent) add(b *block, entries []pb.Entry) {
	if b.length > r.limit/4 {
		return
	}
	b.entries = entries
	r.kept = append(r.kept, keptBlock{b, b.length})
	r.bytes += b.length
	for r.bytes > r.limit {
		old := r.kept[0]
		r.kept[0] = keptBlock{}
		r.kept = r.kept[1:]
		r.bytes -= old.bytes
		old.block.entries = nil
	}
}
