package fsm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/storage"
)

// TestOldValuesAreNotHeld: a command of a few kilobytes may replace, or expire, more than the
// memory holds. Every replica would fail at it, and again at each start.
func TestOldValuesAreNotHeld(t *testing.T) {
	x := newFixture(t)
	const many, size = 24, storage.MultiGetBytes / 4
	large := strings.Repeat("v", size)
	var replace []string
	for i := range many {
		x.apply(write(putUntil(fmt.Sprint("k", i), large, 5)))
	}
	counter := x.one(command.OK, increment("counter", 7)).Counter
	x.apply(write(put("empty", ""), put("last", large)))
	cases := []command.Command{
		write(put("k1", "new"), put("k2", ""), putUntil("k3", "new", 9)),
		cas("no", put("k4", "new")), cas(large, put("k5", "new")), cas(large[1:]+"w", put("k6", "new")), cas("", put("k7", "new")),
		increment("k8", 1), increment("counter", 1), cas("", put("empty", "new")), cas("x", put("absent", "new")), cas("", put("absent", "new")),
		cas("new", put("absent", "newer")), increment("absent", 1), cas("", put("last", "new")),
	}
	for i := 9; i < many; i++ {
		cases = append(cases, write(put(fmt.Sprint("k", i), "replaced")))
		replace = append(replace, fmt.Sprint("k", i))
	}
	entries := make([]Entry, len(cases))
	for i := range cases {
		entries[i] = Entry{Command: &cases[i]}
	}
	tx, err := x.m.begin(entries)
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, cur := range tx.known {
		held += cap(cur.value)
	}
	if held > 3*size { // of the two compare-and-sets with a value as large
		t.Errorf("%d bytes of old values are held", held)
	}
	x.m.scratch.release()
	var codes []command.Code
	for _, res := range x.apply(cases...) {
		codes = append(codes, res.Code)
	}
	const ok, not = command.OK, command.NotUpdated
	want := []command.Code{ok, not, ok, not, not, command.NotACounter, ok, ok, not, ok, ok, command.NotACounter, not}
	for i, code := range codes {
		if i < len(want) && code != want[i] || i >= len(want) && code != ok {
			t.Errorf("command %d: code %v", i, code)
		}
	}
	for key, value := range map[string]string{"k1": "new", "k2": "", "k3": "new", "k4": large, "k5": "new", "k6": large, "k7": large, "k8": large, "empty": "new", "absent": "newer", "last": large} {
		x.expect(key, []byte(value))
	}
	for _, key := range replace {
		x.expect(key, []byte("replaced"))
	}
	if p, _, err := x.m.Get([]byte("counter"), x.clock); err != nil || !bytes.Equal(p.Value, []byte{0, 0, 0, 0, 0, 0, 0, byte(counter + 1)}) {
		t.Errorf("the counter is %v, %v", p.Value, err)
	}
	x.clock += clockOf(5)
	due, _, err := x.m.Expiring(x.clock, many)
	if err != nil || len(due) == 0 {
		t.Fatal(due, err)
	}
	x.one(command.OK, command.Command{Kind: command.Expire, Mutations: due})
	for _, key := range []string{"k4", "k6", "k7", "k8"} {
		x.expect(key, nil)
	}
}

// countsKeys is an engine that counts the keys whose old values are asked for.
type countsKeys struct {
	storage.Engine
	asked int
}

func (e *countsKeys) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	e.asked += len(keys)
	return e.Engine.MultiGet(s, keys)
}

// TestOldValuesAreReadOnce: a request may name one key as often as it has room for, in one
// command or several. All that it does to the key is in the change.
func TestOldValuesAreReadOnce(t *testing.T) {
	x := newFixture(t)
	x.apply(write(putUntil("a", "1", 5), put("b", "1")))
	engine := &countsKeys{Engine: x.m.engine}
	x.m.engine = engine
	x.apply(write(put("a", "2"), putUntil("b", "2", 7), put("a", "3"), put("c", "1")), write(putUntil("a", "4", 6), del("c"), del("c")))
	if engine.asked != 3 {
		t.Errorf("%d old values were read, of 3 keys", engine.asked)
	}
	x.expect("a", []byte("4"))
	x.expect("b", []byte("2"))
	x.expect("c", nil)
	got, err := x.m.Changes(2, 10, 1<<20)
	if err != nil || len(got.Changes) != 2 || len(got.Changes[0].Mutations) != 4 || len(got.Changes[1].Mutations) != 2 {
		t.Errorf("changes %+v, %v", got, err)
	}
	if due, _, err := x.m.Expiring(x.clock+clockOf(100), 10); err != nil || len(due) != 2 {
		t.Errorf("due: %v, %v", due, err)
	}
}
