package host

import (
	"sync"
	_ "unsafe" // for go:linkname
)

// Dragonboat gives each group queues of fixed lengths, which make a megabyte a group:
// right for a few groups, and a gigabyte for a thousand. It reads the lengths when a
// group starts, and lets them be set by a file in the working directory alone, so they
// are set here. Its version is fixed in go.mod; a name that is gone fails to link.

//go:linkname receiveQueueLen github.com/lni/dragonboat/v4.receiveQueueLen
var receiveQueueLen uint64

//go:linkname incomingProposalsMaxLen github.com/lni/dragonboat/v4.incomingProposalsMaxLen
var incomingProposalsMaxLen uint64

//go:linkname incomingReadIndexMaxLen github.com/lni/dragonboat/v4.incomingReadIndexMaxLen
var incomingReadIndexMaxLen uint64

//go:linkname pendingProposalShards github.com/lni/dragonboat/v4.pendingProposalShards
var pendingProposalShards uint64

//go:linkname entrySliceSize github.com/lni/dragonboat/v4/internal/raft.entrySliceSize
var entrySliceSize uint64

//go:linkname minEntrySliceSize github.com/lni/dragonboat/v4/internal/raft.minEntrySliceSize
var minEntrySliceSize uint64

// fullQueues is up to how many groups all have Dragonboat's own queues.
const fullQueues = 16

// queueLength is one of those lengths: what Dragonboat gives a group, and the least that
// one of many gets. A message that does not fit is sent again; a proposal or read that
// does not fit is refused, and may be retried.
type queueLength struct {
	length       *uint64
	full, lowest uint64
}

var queueLengths = []queueLength{
	{&receiveQueueLen, 1024, 64},
	{&incomingProposalsMaxLen, 2048, 128},
	{&incomingReadIndexMaxLen, 4096, 128},
	{&pendingProposalShards, 16, 1},
	// The first must stay above the second.
	{&entrySliceSize, 512, 32},
	{&minEntrySliceSize, 96, 16},
}

var shortenOnce sync.Once

// shortenQueues shares the memory of a few groups' queues out to many. It concerns
// the whole process, and must come before its first group starts.
func (s Size) shortenQueues() {
	if s.VBuckets <= fullQueues {
		return
	}
	shortenOnce.Do(func() {
		for _, q := range queueLengths {
			*q.length = q.of(s.VBuckets)
		}
	})
}

func (q queueLength) of(vBuckets int) uint64 {
	return min(max(q.full*fullQueues/uint64(vBuckets), q.lowest), q.full)
}
