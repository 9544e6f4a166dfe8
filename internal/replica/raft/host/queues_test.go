package host

import (
	"slices"
	"testing"
)

// The lengths that are set are those that the log's library has: it is their own
// values that stand there before.
func TestQueueLengthsAreDragonboats(t *testing.T) {
	for i, q := range queueLengths {
		if *q.length != q.full {
			t.Errorf("length %d is %d, not %d: it has another meaning in this version of Dragonboat", i, *q.length, q.full)
		}
	}
}

// A host with many cores keeps as many connections as the log's library opens itself.
func TestStreamsAreDragonboats(t *testing.T) {
	if dragonboatStreams != 4 {
		t.Errorf("%d connections to each host: it has another meaning in this version of Dragonboat", dragonboatStreams)
	}
}

// A few groups keep their queues, a thousand share the memory of a few.
func TestManyGroupsHaveShortQueues(t *testing.T) {
	for _, q := range queueLengths {
		if got := q.of(fullQueues); got != q.full {
			t.Errorf("%d groups: %d, not %d", fullQueues, got, q.full)
		}
		if got := q.of(1024); got != q.lowest {
			t.Errorf("1024 groups: %d, not %d", got, q.lowest)
		}
	}
	for n := 1; n <= 1024; n *= 2 {
		if slice, free := lengthOf(&entrySliceSize, n), lengthOf(&minEntrySliceSize, n); slice <= free {
			t.Errorf("%d groups: slices of %d entries, which are replaced when %d are left", n, slice, free)
		}
	}
}

// lengthOf returns the length that so many groups have.
func lengthOf(length *uint64, vBuckets int) uint64 {
	i := slices.IndexFunc(queueLengths, func(q queueLength) bool { return q.length == length })
	return queueLengths[i].of(vBuckets)
}
