package bootstrap

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/durable"
)

// restarted enters a node again whose log is there.
func (n *node) restarted(t *testing.T) *Identity {
	t.Helper()
	n.RaftData = func() (bool, error) { return true, nil }
	id, err := n.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestStartsAreCounted(t *testing.T) {
	n := newNode(t, urlA)
	id := must(t, n.start(t.Context()))
	var last []Start
	for i := range uint64(rememberedStarts + 3) {
		past := id.Past()
		if past.Number != i+1 || past.UUID != id.UUID || past.Last().Number != i+1 || n.stored(t).Starts != i+1 {
			t.Fatalf("start %d is %+v", i+1, past)
		}
		for _, s := range last {
			if !past.Holds(s) {
				t.Fatalf("start %d does not know of %+v", i+1, s)
			}
		}
		last = append(last, past.Last())
		id = n.restarted(t)
	}
	if n := len(id.Past().IDs); n != rememberedStarts {
		t.Errorf("%d ids are remembered", n)
	}
}

// A node is nothing before its start is counted durably.
func TestAStartThatCannotBeCountedIsNone(t *testing.T) {
	n := newNode(t, urlA)
	must(t, n.start(t.Context()))
	n.write = func(string, []byte) error { return errCrash }
	if _, err := n.enter(t.Context()); !errors.Is(err, errCrash) {
		t.Errorf("started: %v", err)
	}
}

func TestPastHolds(t *testing.T) {
	past := Past{UUID: "a", Number: 10, IDs: []uint64{108, 109, 110}}
	for _, c := range []struct {
		start Start
		want  bool
	}{
		{Start{"a", 10, 110}, true},
		{Start{"a", 9, 109}, true},
		{Start{"a", 8, 108}, true},
		{Start{"a", 7, 1}, true}, // too long ago to tell
		{Start{"a", 10, 109}, false},
		{Start{"a", 9, 110}, false},
		{Start{"a", 8, 1}, false},
		{Start{"a", 11, 111}, false},
		{Start{"b", 9, 109}, false},
	} {
		if got := past.Holds(c.start); got != c.want {
			t.Errorf("%+v holds %+v: %v", past, c.start, got)
		}
	}
}

// Of a folder and its copy that are both started, neither knows of the other's
// starts, however often it is started.
func TestCopiesDoNotKnowOfEachOthersStarts(t *testing.T) {
	n := newNode(t, urlA)
	must(t, n.start(t.Context()))
	older := newNode(t, urlA)
	if err := os.CopyFS(older.Dir, os.DirFS(n.Dir)); err != nil {
		t.Fatal(err)
	}
	newest := n.restarted(t).Past()
	for range 5 {
		copied := older.restarted(t).Past()
		if copied.Holds(newest.Last()) {
			t.Errorf("start %d of the copy knows of %+v", copied.Number, newest.Last())
		}
		if later := n.restarted(t).Past(); later.Holds(copied.Last()) {
			t.Errorf("start %d knows of %+v of the copy", later.Number, copied.Last())
		}
	}
}

// A disk that was found to be an older copy stays refused, also when no member can say
// so any more.
func TestARetiredDiskStaysRefused(t *testing.T) {
	n := newNode(t, urlA)
	id := must(t, n.start(t.Context()))
	heard := id.Past().Last()
	heard.Number += 3
	err := id.OlderCopy(heard, "member 2")
	if !errors.Is(err, ErrOlderCopy) {
		t.Fatal(err)
	}
	for range 2 {
		if err := id.Retire(err); err != nil {
			t.Fatal(err)
		}
	}
	n.RaftData = func() (bool, error) { return true, nil }
	for range 2 {
		_, again := n.enter(t.Context())
		for _, word := range []string{"earlier start", "member 2 has heard of start 4", "-removeNode " + urlA, "--nexus-join"} {
			if again == nil || !errors.Is(again, ErrOlderCopy) || !strings.Contains(again.Error(), word) {
				t.Errorf("it does not say %q: %v", word, again)
			}
		}
		if strings.Count(fmt.Sprint(again), ErrOlderCopy.Error()) != 1 {
			t.Errorf("said twice: %v", again)
		}
	}
}

func TestNotesOfStarts(t *testing.T) {
	n := newNode(t, urlA)
	id := must(t, n.start(t.Context()))
	if heard := id.Heard(); len(heard) != 0 {
		t.Errorf("a new node has heard of %+v", heard)
	}
	want := map[uint64]Start{2: {"a", 1, 11}, 3: {"b", 2, 1<<64 - 1}}
	for replica, s := range want {
		if err := id.Hear(replica, Start{"x", 1, 1}); err != nil {
			t.Fatal(err)
		}
		if err := id.Hear(replica, s); err != nil {
			t.Fatal(err)
		}
	}
	writes := 0
	id.file.write = func(path string, content []byte) error { writes++; return durable.WriteFile(path, content) }
	if err := id.Hear(2, want[2]); err != nil || writes != 0 {
		t.Errorf("to hear the same again: %v, %d writes", err, writes)
	}
	id.file.write = func(string, []byte) error { return errCrash }
	if err := id.Hear(2, Start{"a", 5, 5}); !errors.Is(err, errCrash) {
		t.Errorf("a note that cannot be written: %v", err)
	}
	id.file.write = durable.WriteFile
	addresses := map[uint64]string{2: "127.0.0.1:1"}
	for range 2 {
		if err := id.SetAddresses(addresses); err != nil {
			t.Fatal(err)
		}
	}
	again := n.restarted(t)
	if got := again.Heard(); !maps.Equal(got, want) {
		t.Errorf("after a restart it has heard of %+v", got)
	}
	if got := again.Addresses(); !maps.Equal(got, addresses) {
		t.Errorf("after a restart it knows the addresses %v", got)
	}
}

// Notes only help to refuse others, so damage to them keeps no node from starting.
func TestDamagedNotesAreLeftBehind(t *testing.T) {
	n := newNode(t, urlA)
	id := must(t, n.start(t.Context()))
	if err := id.Hear(2, Start{"a", 1, 11}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(n.Dir, notesName)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.Replace(string(content), `"number": 1`, `"number": 2`, 1)
	if err := os.WriteFile(path, []byte(damaged), 0o640); err != nil || damaged == string(content) {
		t.Fatalf("%v: %s", err, damaged)
	}
	again := n.restarted(t)
	if s, ok := again.Heard()[2]; ok || !n.text.Has(notesName) {
		t.Errorf("read as %+v; logged: %s", s, n.text.String())
	}
	if err := again.Hear(2, Start{"a", 1, 11}); err != nil {
		t.Error(err)
	}
}

// A first member knows from its invitation whom to ask about its disk, so that a copy
// of the folder from its first moments knows, too.
func TestInvitationsTellAddresses(t *testing.T) {
	urls := reserve(t, 2)
	founder, member := newNode(t, urls[0], urls...), newNode(t, urls[1], urls...)
	founder.Address, member.Address = "127.0.0.1:1", "127.0.0.1:2"
	waiting := member.start(t.Context())
	waits(t, urls[1])
	id, done := lead(t, t.Context(), founder)
	want := map[uint64]string{1: founder.Address, 2: member.Address}
	if got := must(t, waiting).Addresses(); !maps.Equal(got, want) {
		t.Errorf("the member knows %v", got)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := id.Addresses()[2]; got != member.Address {
		t.Errorf("the founder knows %q", got)
	}
}
