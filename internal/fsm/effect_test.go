package fsm

import (
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// The newest change is known after each batch and after a restart. If it is no longer
// retained, what is said is not below it.
func TestLastEffect(t *testing.T) {
	x := newFixture(t)
	want := func(what string, at kv.Index) {
		t.Helper()
		if got := x.m.LastEffect(); got != at {
			t.Errorf("%s: %d, want %d", what, got, at)
		}
	}
	want("empty", 0)
	x.apply(write(put("a", "1")), cas("2", put("a", "3")), pause(true), pause(false))
	want("a change, and entries without effect", 1)
	x.restart()
	want("opened again", 1)
	x.apply(write(put("a", "2")), write(put("b", "1")), cas("9", put("b", "3")))
	want("two changes", 6)
	x.clock += 10_000_000
	x.apply(command.Command{Kind: command.Tick})
	if _, err := x.m.TrimChangelog(changelog.Retention{MaxAge: time.Second}); err != nil {
		t.Fatal(err)
	}
	want("trimmed", 6)
	x.restart()
	if got := x.m.LastEffect(); got < 6 || got > x.m.Applied() {
		t.Errorf("%d after a trim and a restart, the newest change is 6 and the state at %d", got, x.m.Applied())
	}

	slave := newMachine(t, copiedEngine(t, x.m))
	at := x.m.Applied()
	if got := slave.LastEffect(); got != at {
		t.Errorf("%d in a copy at %d", got, at)
	}
	for _, c := range []kv.Change{{Index: at + 2, Mutations: []kv.Mutation{put("c", "1")}}, {Index: at + 5}} {
		if err := slave.Replicate([]kv.Change{c}, c.Index+1, false); err != nil {
			t.Fatal(err)
		}
	}
	if got := slave.LastEffect(); got != at+2 {
		t.Errorf("%d after changes that were replicated, want %d", got, at+2)
	}
}
