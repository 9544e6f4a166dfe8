package ops

import "testing"

// TestStreamsOfOneCallerLeaveRoom: one that has all of them loses the newest to others, until
// each has its share.
func TestStreamsOfOneCallerLeaveRoom(t *testing.T) {
	r := &readers{most: 4}
	var greedy []*reader
	for range 4 {
		greedy = append(greedy, r.open("greedy"))
	}
	if r.open("greedy") != nil {
		t.Error("a fifth stream was opened")
	}
	ended := func(one *reader) bool {
		select {
		case <-one.ended:
			return true
		default:
			return false
		}
	}
	for i := range 2 {
		if r.open("other") == nil || !ended(greedy[3-i]) || ended(greedy[2-i]) {
			t.Errorf("stream %d of another caller", i)
		}
	}
	if r.open("other") != nil {
		t.Error("each has its share, and another stream was opened")
	}
	r.close(greedy[3]) // it has ended before
	r.close(greedy[0])
	if r.open("third") == nil || ended(greedy[1]) {
		t.Error("there was room for another stream")
	}
}
