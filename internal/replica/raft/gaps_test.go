package raft

import (
	"errors"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/raftpb"
)

// gapLog is a log of entries that carry a command where commands says so.
type gapLog struct {
	first, last uint64
	commands    map[uint64]bool
	asked       int
}

func (l *gapLog) GetRange() (first, last uint64) { return l.first, l.last }

func (l *gapLog) Entries(low, high, _ uint64) ([]raftpb.Entry, error) {
	l.asked++
	if low < l.first || high > l.last+1 || low >= high {
		return nil, errors.New("out of range")
	}
	e := raftpb.Entry{Index: low, Term: 1}
	if l.commands[low] {
		e.ClientID, e.SeriesID, e.Cmd = 7, client.NoOPSeriesID, []byte("command")
	}
	return []raftpb.Entry{e}, nil // one at a time, as if each were large
}

func TestLogGaps(t *testing.T) {
	for _, c := range []struct {
		name      string
		log       gapLog
		low, high uint64
		all       bool
		err       string
	}{
		{"nothing between", gapLog{first: 1, last: 9}, 5, 5, true, ""},
		{"what begins a term", gapLog{first: 1, last: 9}, 5, 7, true, ""},
		{"a command", gapLog{first: 1, last: 9, commands: map[uint64]bool{6: true}}, 5, 8, false, "log entry 6 was never given"},
		{"a command far behind", gapLog{first: 1, last: 900, commands: map[uint64]bool{5: true}}, 5, 800, false, "log entry 5 was never given"},
		{"cut off", gapLog{first: 7, last: 9, commands: map[uint64]bool{6: true}}, 5, 8, true, ""},
		{"not there yet", gapLog{first: 1, last: 6, commands: map[uint64]bool{6: true}}, 5, 8, false, ""},
		{"replaced by a snapshot", gapLog{first: 21, last: 20}, 5, 8, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var gaps logGaps
			gaps.add(c.low, c.high)
			all, err := gaps.check(&c.log)
			if all != c.all || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, %v", all, err)
			}
		})
	}
}

// A stretch that the log does not show yet is looked at later.
func TestLogGapsAreKept(t *testing.T) {
	log := gapLog{first: 1, last: 5, commands: map[uint64]bool{6: true}}
	var gaps logGaps
	gaps.add(6, 8)
	if all, err := gaps.check(&log); all || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	log.last = 8
	if _, err := gaps.check(&log); err == nil {
		t.Error("the command was not missed")
	}
	log.commands = nil
	if all, err := gaps.check(&log); !all || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	log.asked = 0
	if all, err := gaps.check(&log); !all || err != nil || log.asked != 0 {
		t.Errorf("it was looked at again: %v, %v", all, err)
	}
}

func TestLastCommand(t *testing.T) {
	log := gapLog{first: 1, last: 500, commands: map[uint64]bool{3: true, 17: true, 400: true}}
	for _, c := range []struct{ low, high, want uint64 }{
		{1, 501, 400}, {1, 400, 17}, {4, 17, 0}, {18, 390, 0}, {4, 4, 0}, {1, 4, 3},
	} {
		if got, err := lastCommand(&log, c.low, c.high); err != nil || got != c.want {
			t.Errorf("[%d, %d): %d, %v; want %d", c.low, c.high, got, err, c.want)
		}
	}
}
