package history

import (
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

func put(version uint64, begin, end time.Duration) Op {
	return Op{Kind: Put, Series: "w", Key: "k", Version: version, Begin: begin * ms, End: end * ms}
}

func read(kind Kind, version uint64, begin, end time.Duration) Op {
	return Op{Kind: kind, Series: "r", Key: "k", Version: version, Begin: begin * ms, End: end * ms}
}

func failed(o Op) Op {
	o.Failed = "unavailable"
	return o
}

// TestStaleReadsAreFound is the negative control of the check: each history is wrong or right
// for certain.
func TestStaleReadsAreFound(t *testing.T) {
	for _, c := range []struct {
		name string
		ops  []Op
		says string // empty: nothing is wrong
	}{
		{"a read after the acknowledgement returns the version before it",
			[]Op{put(1, 0, 1), put(2, 2, 3), read(Get, 1, 4, 5)}, "version 1, and version 2 was there"},
		{"a read after it returns nothing", []Op{put(1, 0, 1), read(Get, 0, 2, 3)}, "version 0, and version 1"},
		{"two reads of a write that goes on, the second of which is older",
			[]Op{put(1, 0, 1), put(2, 2, 20), read(Get, 2, 3, 4), read(Get, 1, 5, 6)}, "version 1, and version 2"},
		{"a write of unknown outcome was read, and then not",
			[]Op{put(1, 0, 1), failed(put(2, 2, 3)), read(Get, 2, 4, 5), read(Get, 1, 6, 7)}, "version 1, and version 2"},
		{"a version that was never written", []Op{put(1, 0, 1), read(Get, 7, 2, 3)}, "was not written by then"},
		{"a version before its write", []Op{read(Get, 1, 0, 1), put(1, 2, 3)}, "was not written by then"},
		{"a slave's read of it", []Op{read(Sequential, 1, 0, 1), put(1, 2, 3)}, "was not written by then"},

		{"a read beside the write returns either", []Op{put(1, 0, 1), put(2, 2, 9), read(Get, 1, 3, 4), read(Get, 2, 5, 6)}, ""},
		{"two reads at the same time", []Op{put(1, 0, 1), put(2, 2, 9), read(Get, 2, 3, 7), read(Get, 1, 4, 8)}, ""},
		{"a write of unknown outcome is seen late", []Op{put(1, 0, 1), failed(put(2, 2, 3)), read(Get, 1, 4, 5), read(Get, 2, 6, 7)}, ""},
		{"a failed read says nothing", []Op{put(1, 0, 1), failed(read(Get, 0, 2, 3))}, ""},
		{"a slave lags", []Op{put(1, 0, 1), put(2, 2, 3), read(Sequential, 1, 4, 5)}, ""},
	} {
		found := Stale(c.ops)
		if c.says == "" && len(found) > 0 || c.says != "" && (len(found) != 1 || !strings.Contains(found[0].Text, c.says)) {
			t.Errorf("%s: %+v, want %q", c.name, found, c.says)
		}
	}
}

func TestLag(t *testing.T) {
	ops := []Op{
		put(1, 0, 1), put(2, 9, 10), put(3, 19, 20), failed(put(4, 21, 22)),
		read(Sequential, 2, 15, 16), read(Sequential, 1, 30, 31), read(Sequential, 3, 40, 41),
	}
	for from, want := range map[time.Duration]time.Duration{0: 20, 31: 0} {
		if got := Lag(ops, "r", from*ms); got != want*ms {
			t.Errorf("from %d ms: %s, want %d ms", from, got, want)
		}
	}
}

func TestGap(t *testing.T) {
	ops := []Op{put(1, 0, 1), put(2, 2, 3), put(3, 4, 5), failed(put(4, 11, 20)), put(5, 21, 30), put(6, 31, 32)}
	if g := GapOf(ops, Put, "", 10*ms, 40*ms); g != (Gap{First: 20 * ms, Longest: 25 * ms}) {
		t.Errorf("%+v", g)
	}
	if g := GapOf(ops, Put, "", 33*ms, 90*ms); g != (Gap{First: 57 * ms, Longest: 57 * ms, Stuck: 1}) {
		t.Errorf("without a success: %+v", g)
	}
	if g := GapOf(ops, Get, "", 0, 40*ms); g != (Gap{}) {
		t.Errorf("of another kind: %+v", g)
	}
	never := failed(put(1, 0, 1))
	never.Series = "v"
	if g := GapOf(append(ops, never), Put, "", 10*ms, 40*ms); g != (Gap{First: 30 * ms, Longest: 30 * ms, Stuck: 1}) {
		t.Errorf("of two, one of which never succeeded: %+v", g)
	}
	if g := GapOf(ops, Put, "absent", 10*ms, 40*ms); g != (Gap{First: 30 * ms, Longest: 30 * ms, Stuck: 1}) {
		t.Errorf("of one that did nothing: %+v", g)
	}
}
