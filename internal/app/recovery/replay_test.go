package recovery

import (
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/fsmtest"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
)

// log is a log by its entries, from 1 on.
type log []command.Command

func (l log) Commands(from, to uint64, f func(uint64, *command.Command) error) error {
	for entry := from; entry <= to; entry++ {
		c := l[entry-1]
		if err := f(entry, &c); err != nil {
			return err
		}
	}
	return nil
}

// TestTheTailMeansWhatItMeant: an epoch that begins behind what is known to be committed owns what was
// proposed in it, and fences what an earlier owner has proposed. What is known to be committed
// keeps its numbers, the rest is above those that are skipped, and the next history begins behind it.
func TestTheTailMeansWhatItMeant(t *testing.T) {
	engine := fsmtest.OpenMemory(t)
	m, err := fsm.New(engine)
	if err != nil {
		t.Fatal(err)
	}
	l := log{
		fsmtest.Begin(1, 1, 7),
		fsmtest.Fenced(1, fsmtest.Write(fsmtest.Put("a", "1"))),
		fsmtest.Fenced(1, fsmtest.Write(fsmtest.Put("b", "1"))), // sure up to here
		fsmtest.Fenced(1, fsmtest.As(fsmtest.Write(fsmtest.Put("c", "1")), 9, 1, 0)),
		fsmtest.Begin(2, 2, 7),
		fsmtest.Fenced(1, fsmtest.Write(fsmtest.Put("fenced", "1"))),
		fsmtest.Fenced(5, fsmtest.Write(fsmtest.Put("d", "1"))),
		fsmtest.Fenced(5, fsmtest.Write(fsmtest.Put("dropped", "1"))),
	}
	id := m.Identity()
	if err := replay(m, l, 3, 2); err != nil { // what the state had
		t.Fatal(err)
	}
	if err := replay(m, l, 3, 7); err != nil {
		t.Fatal(err)
	}
	if at := m.Applied(); at != era.Gap+7 {
		t.Errorf("at %d", at)
	}
	for key, want := range map[string]bool{"a": true, "b": true, "c": true, "d": true, "fenced": false, "dropped": false} {
		if _, found, err := m.Get([]byte(key), m.Clock()); err != nil || found != want {
			t.Errorf("%s is there: %v, %v", key, found, err)
		}
	}
	var numbers []kv.Index
	changes, err := m.Changes(1, 0, 1<<20)
	for _, c := range changes.Changes {
		numbers = append(numbers, c.Index)
	}
	if err != nil || len(numbers) != 4 || numbers[1] != 3 || numbers[2] != era.Gap+4 || numbers[3] != era.Gap+7 {
		t.Errorf("changes %d, %v", numbers, err)
	}
	to := offline.Branch{Former: id.History, End: 3, Last: era.Gap + 7, History: era.History(1, "next"), Clock: m.Clock()}
	if err := offline.Fork(engine, to); err != nil {
		t.Fatal(err)
	}
	if m, err = fsm.NewReplica(engine); err != nil {
		t.Fatal(err)
	}
	if m.Applied() != era.Gap+7 || m.Base() != era.Gap+7 || m.Epoch() != (command.Epoch{}) {
		t.Errorf("the new log begins at %d, %d with the epoch %+v", m.Applied(), m.Base(), m.Epoch())
	}
	if lineage := m.Lineage(); len(lineage) != 1 || lineage[0] != (history.Former{History: id.History, End: 3}) {
		t.Errorf("lineage %+v", lineage)
	}
	if m.Lost(3) || !m.Lost(4) || !m.Lost(7) || m.Lost(era.Gap+7) {
		t.Error("the numbers behind the end are not lost, or others are")
	}
	again := fsmtest.As(fsmtest.Write(fsmtest.Put("c", "1")), 9, 1, 0)
	results := make([]command.Result, 1)
	if err := m.Apply([]fsm.Entry{{Index: m.Applied() + 1, Command: &again}}, results, false); err != nil || results[0].Index != era.Gap+4 {
		t.Errorf("a repeat of a request in the tail has the result %+v, %v", results[0], err)
	}
}
