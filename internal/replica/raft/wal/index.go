package wal

import (
	"slices"
	"sort"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// block is a run of entries in one record. first and next are those which are needed: the
// record may hold more, before and behind.
type block struct {
	first, next uint64
	segment     *segment
	// at and length are where the record is, weight is the part of its length that counts for
	// this block.
	at             int64
	length, weight int
	// entries are those of the record if they are still in memory.
	entries []pb.Entry
}

// group is what the log has of one Raft group's replica.
type group struct {
	id raftio.NodeInfo
	// state is the newest, saved the one that is durable, or will be before anything else
	// that is written. They differ in the commit index alone.
	state, saved        pb.State
	snapshot, bootstrap []byte
	snapshotIndex       uint64
	// blocks follow each other, without a gap once the log is read.
	blocks []*block
	// next is the index behind the last entry that the group had, also when that is gone.
	next uint64
	// low is the first of the entries that must be there after a start: those before it were
	// given up, or replaced.
	low uint64
	// trimmed says that entries were given up since the group's range was saved.
	trimmed bool
}

// first is the index of the first entry, and next if there is none.
func (g *group) first() uint64 {
	if len(g.blocks) == 0 {
		return g.next
	}
	return g.blocks[0].first
}

// append puts a block behind what there is: its entries replace those from its first on.
// It returns the blocks that are not needed any more.
func (g *group) append(b *block) (gone []*block) {
	keep := sort.Search(len(g.blocks), func(i int) bool { return g.blocks[i].first >= b.first })
	if b.first > g.next || b.first < g.low {
		// Entries are missing between, or none before is left: the log begins with these.
		keep, g.low = 0, b.first
	}
	gone = slices.Clone(g.blocks[keep:])
	clear(g.blocks[keep:])
	g.blocks = g.blocks[:keep]
	if keep > 0 {
		g.blocks[keep-1].next = min(g.blocks[keep-1].next, b.first)
	}
	g.blocks = append(g.blocks, b)
	g.next = b.next
	return gone
}

// insert puts a block that was moved where entries are missing, as far as they are. While a log
// is read, there are gaps until all that was moved has been seen. It returns what it added.
func (g *group) insert(b *block) (added []*block) {
	next := min(b.next, g.next)
	for first := max(b.first, g.low); first < next; {
		i := sort.Search(len(g.blocks), func(i int) bool { return g.blocks[i].next > first })
		if i < len(g.blocks) && g.blocks[i].first <= first {
			first = g.blocks[i].next
			continue
		}
		piece := *b
		piece.first, piece.next = first, next
		if i < len(g.blocks) {
			piece.next = min(next, g.blocks[i].first)
		}
		piece.weight = int(uint64(b.weight) * (piece.next - piece.first) / (b.next - b.first))
		g.blocks = slices.Insert(g.blocks, i, &piece)
		added = append(added, &piece)
		first = piece.next
	}
	return added
}

// missing returns the first entries that must be there and are not, if there are any.
func (g *group) missing() (first, next uint64, ok bool) {
	at := g.low
	for _, b := range g.blocks {
		if b.first > at {
			return at, b.first, true
		}
		at = max(at, b.next)
	}
	return at, g.next, at < g.next
}

// limit drops what is outside of [first, next). It returns the blocks that are not needed any
// more.
func (g *group) limit(first, next uint64) (gone []*block) {
	keep := g.blocks[:0]
	for _, b := range g.blocks {
		b.first, b.next = max(b.first, first), min(b.next, next)
		if b.first >= b.next {
			gone = append(gone, b)
		} else {
			keep = append(keep, b)
		}
	}
	clear(g.blocks[len(keep):])
	g.blocks = keep
	g.next = next
	return gone
}

// trim drops the entries before first. It returns the blocks that are not needed any more.
func (g *group) trim(first uint64) (gone []*block) {
	n := sort.Search(len(g.blocks), func(i int) bool { return g.blocks[i].next > first })
	gone = slices.Clone(g.blocks[:n])
	clear(g.blocks[:n])
	g.blocks = g.blocks[n:]
	g.low = max(g.low, min(first, g.next))
	if len(g.blocks) > 0 {
		g.blocks[0].first = max(g.blocks[0].first, first)
	}
	return gone
}

// find returns the position of the block that has an index.
func (g *group) find(index uint64) (int, bool) {
	i := sort.Search(len(g.blocks), func(i int) bool { return g.blocks[i].next > index })
	return i, i < len(g.blocks) && g.blocks[i].first <= index
}

// setSnapshot takes a marshalled snapshot, nil for none, unless there is a newer one. It returns
// the snapshot's index.
func (g *group) setSnapshot(p []byte) uint64 {
	if p == nil {
		return 0
	}
	var s pb.Snapshot
	pb.MustUnmarshal(&s, p)
	if s.Index > g.snapshotIndex {
		g.snapshot, g.snapshotIndex = p, s.Index
	}
	return s.Index
}

// checkpoint is the record of all that the group has besides its entries.
func (g *group) checkpoint() *record {
	return &record{kind: kindCheckpoint, group: g.id, state: nonEmpty(g.state), snapshot: g.snapshot, bootstrap: g.bootstrap, first: g.first(), next: g.next}
}

func nonEmpty(s pb.State) *pb.State {
	if pb.IsEmptyState(s) {
		return nil
	}
	return &s
}
