package command_test

import (
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

const (
	lan = 400 * time.Millisecond
	wan = 2 * time.Second
)

// stated begins an epoch whose owner's leases last so long.
func stated(term uint64, lease time.Duration) *command.Begin {
	return &command.Begin{Term: term, Owner: term, Nonce: term, Lease: lease, Stated: true}
}

// TestLongestLease: an epoch knows the longest lease that may run when it is replaced,
// over any number of epochs that never became active.
func TestLongestLease(t *testing.T) {
	for _, c := range []struct {
		name   string
		begins []*command.Begin
		// active and ended say so of the epoch that was begun before the last one.
		active, ended bool
		want          time.Duration
	}{
		{"no epoch", nil, false, false, 0},
		{"the first", []*command.Begin{stated(1, wan)}, false, false, wan},
		{"one that takes none", []*command.Begin{stated(1, 0)}, false, false, 0},
		{"one that does not say", []*command.Begin{{Term: 1}}, false, false, command.UnstatedLease},
		{"shorter than the one before", []*command.Begin{stated(1, wan), stated(2, lan)}, false, false, wan},
		{"longer than the one before", []*command.Begin{stated(1, lan), stated(2, wan)}, false, false, wan},
		{"several that never became active", []*command.Begin{stated(1, wan), stated(2, lan), stated(3, 0), stated(4, lan)}, false, false, wan},
		{"behind one that was active", []*command.Begin{stated(1, wan), stated(2, lan), stated(3, 0)}, true, false, lan},
		{"behind one that has ended", []*command.Begin{stated(1, wan), stated(2, lan), stated(3, 0)}, false, true, 0},
		{"again by the same owner", []*command.Begin{stated(1, wan), stated(2, lan), stated(2, lan)}, false, false, wan},
		{"refused", []*command.Begin{stated(2, lan), stated(1, wan)}, false, false, lan},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e command.Epoch
			for i, b := range c.begins {
				if i > 0 && i == len(c.begins)-1 {
					if c.active {
						e.Earlier = 0
					}
					e.Ended = c.ended
				}
				e, _ = e.Next(b, kv.Index(i+1))
			}
			if got := e.Longest(); got != c.want {
				t.Errorf("leases of %v may run, want %v: %+v", got, c.want, e)
			}
		})
	}
}
