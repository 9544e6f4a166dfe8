package host

import (
	"sync"
	_ "unsafe" // for go:linkname
)

// Dragonboat gives each group queues of fixed lengths, about a megabyte a group: fine for a
// few groups, but a gigabyte for a thousand. It reads the lengths when a group starts. They can
// only be configured by a file in the working directory, so they are set through their linker
// names. Dragonboat's version is fixed in go.mod; a name that does not exist fails to link.

//go:linkname receiveQueueLen github.com/lni/dragonboat/v4.receiveQueueLen
var receiveQueueLen uint64

//go:linkname incomingProposalsMaxLen github.com/lni/dragonboat/v4.incomingProposalsMaxLen
var incomingProposalsMaxLen uint64

//go:linkname incomingReadIndexMaxLen github.com/lni/dragonboat/v4.incomingReadIndexMaxLen
var incomingReadIndexMaxLen uint64

//go:linkname pendingProposalShards github.com/lni/dragonboat/v4.pendingProposalShards
var pendingProposalShards uint64

//go:linkname initialTaskQueueCap github.com/lni/dragonboat/v4/internal/rsm.initialTaskQueueCap
var initialTaskQueueCap uint64

//go:linkname entrySliceSize github.com/lni/dragonboat/v4/internal/raft.entrySliceSize
var entrySliceSize uint64

//go:linkname minEntrySliceSize github.com/lni/dragonboat/v4/internal/raft.minEntrySliceSize
var minEntrySliceSize uint64

//go:linkname streamConnections github.com/lni/dragonboat/v4.streamConnections
var streamConnections uint64

// fullQueues is the greatest number of groups that all have queues of Dragonboat's own
// lengths.
const fullQueues = 16

// queueLength is one of those lengths: Dragonboat's own, and the least for a group of many.
// A message that does not fit is sent again; a proposal or read that does not fit is
// rejected, and may be retried.
type queueLength struct {
	length       *uint64
	full, lowest uint64
}

var queueLengths = []queueLength{
	{&receiveQueueLen, 1024, 16},
	{&incomingProposalsMaxLen, 2048, 64},
	{&incomingReadIndexMaxLen, 4096, 64},
	{&pendingProposalShards, 16, 1},
	// What a group's queue to its apply worker begins with; it grows. The batches of the workers
	// themselves do not, as they are passed by value: one that is too short is allocated again
	// each time.
	{&initialTaskQueueCap, 24, 4},
	// The first must stay above the second.
	{&entrySliceSize, 512, 16},
	{&minEntrySliceSize, 96, 8},
}

var shortenOnce sync.Once

// shortenQueues divides the memory of a few groups' queues among many groups. It affects
// the whole process, and must be called before its first host opens.
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

// dragonboatStreams is how many connections Dragonboat itself opens to each other host.
var dragonboatStreams = streamConnections

var streamsOnce sync.Once

// shareStreams chooses how many connections carry the groups' messages to each other host. A
// connection sends what its groups say at the same time in one write, and each write wakes its
// receiver: on a small host these cost more than the messages. It affects the whole process,
// and must be called before a host opens.
func (s Size) shareStreams() {
	streamsOnce.Do(func() { streamConnections = s.streams() })
}

func (s Size) streams() uint64 { return between(s.Cores/2, 1, int(dragonboatStreams)) }
