package verify

import (
	"strings"
	"testing"
)

// Answers of several tries are compared, since nodes under load never hash the
// same index in the same try.
func TestSameIndex(t *testing.T) {
	at := func(indexes ...uint64) map[uint64]Content {
		m := make(map[uint64]Content)
		for _, i := range indexes {
			m[i] = Content{Index: i}
		}
		return m
	}
	tests := []struct {
		seen []map[uint64]Content
		want uint64 // 0: none
	}{
		{[]map[uint64]Content{at(5)}, 5},
		{[]map[uint64]Content{at(5), at(6)}, 0},
		{[]map[uint64]Content{at(5, 8), at(6, 5)}, 5},
		{[]map[uint64]Content{at(5, 8, 9), at(9, 5, 8), at(8, 5)}, 8},
	}
	for _, tt := range tests {
		got := sameIndex(tt.seen)
		if tt.want == 0 && got != nil || tt.want != 0 && (len(got) != len(tt.seen) || got[0].Index != tt.want) {
			t.Errorf("%v agree at %v, want %d", tt.seen, got, tt.want)
		}
	}
	v := Verdict{Verdict: notComparable, Nodes: []Content{{Index: 3}, {Index: 4}}}
	if s := v.Sentence(); !strings.Contains(s, "3, 4") || !strings.Contains(s, "-pauseWrites") {
		t.Errorf("sentence is %q", s)
	}
}
