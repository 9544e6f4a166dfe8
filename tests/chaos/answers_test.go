package chaos

import (
	"slices"
	"testing"
	"time"
)

// answer is an acknowledged mutation: when it was called and answered, since the history's
// start, and the era of the masters that answered it.
type answer struct {
	call, end time.Duration
	era       uint64
}

// late returns the answers of masters that others had replaced: each was called after a
// mutation was acknowledged in a later era. Masters that answer beside their successors show
// up here.
func late(answers []answer) (out []answer) {
	// began is when the first mutation of each era was acknowledged.
	began := make(map[uint64]time.Duration)
	for _, a := range answers {
		if first, known := began[a.era]; !known || a.end < first {
			began[a.era] = a.end
		}
	}
	for _, a := range answers {
		for era, first := range began {
			if era > a.era && a.call > first {
				out = append(out, a)
				break
			}
		}
	}
	return out
}

// late is late of the load's answers.
func (l *load) late() []answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return late(l.answers)
}

// era is the latest era that an answer named.
func (l *load) era() (era uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.answers {
		era = max(era, a.era)
	}
	return era
}

// acksBetween counts the mutations that were acknowledged in an interval.
func (l *load) acksBetween(from, to time.Duration) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.answers {
		if from <= a.end && a.end < to {
			n++
		}
	}
	return n
}

// TestTwoMastersAreFound: answers that overlap with those of the next era are in order, those
// that were called after them are not.
func TestTwoMastersAreFound(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []answer
		want    []answer
	}{
		{"one after the other", []answer{{1, 2, 0}, {3, 4, 1}, {5, 6, 1}}, nil},
		{"an answer that is late on its way", []answer{{1, 9, 0}, {3, 4, 1}}, nil},
		{"called beside the first of the next era", []answer{{3, 9, 0}, {2, 4, 1}}, nil},
		{"called after the first of the next era", []answer{{2, 4, 1}, {5, 9, 0}}, []answer{{5, 9, 0}}},
		{"two eras later", []answer{{2, 4, 7}, {5, 9, 6}, {1, 2, 5}}, []answer{{5, 9, 6}}},
	} {
		if got := late(c.answers); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
