package lease

import (
	"flag"
	"math"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

var (
	seedFlag = flag.Uint64("lease.seed", 0, "run only this seed, as often as -lease.runs says")
	runsFlag = flag.Int("lease.runs", defaultRuns, "how many seeds the simulation runs in each climate")
)

// enoughRuns come across all that the simulation is meant to reach. With the race detector
// each takes several times as long, and make test runs them without it, too.
const enoughRuns = 60

// inOrder has goroutines run one at a time until the test ends, in the order in which they
// became ready. A seed then nearly always repeats, and takes about a third less of the processor:
// no thread is woken for a goroutine that has only a few instructions to run.
func inOrder(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// add sums up what runs reached.
func (r *reached) add(o reached) {
	sum, more := reflect.ValueOf(r).Elem(), reflect.ValueOf(o)
	for i := range sum.NumField() {
		sum.Field(i).SetUint(sum.Field(i).Uint() + more.Field(i).Uint())
	}
}

// complain fails the test if the runs came across less than they were meant to.
func (r *reached) complain(t *testing.T) {
	t.Helper()
	counts := reflect.ValueOf(*r)
	for i := range counts.NumField() {
		if counts.Field(i).Uint() == 0 {
			t.Errorf("%s: none was reached", counts.Type().Field(i).Name)
		}
	}
	if r.LeaseReads < 10*r.Runs || r.Writes < 5*r.Runs || r.WaitOuts < r.Runs || r.Activations < r.Runs || r.VoidViews < r.Runs/10 {
		t.Errorf("too little happened: %+v", *r)
	}
}

// TestCheckerCanFail shows the checker a stale read.
func TestCheckerCanFail(t *testing.T) {
	op := func(write bool, value, output int, from, to int64) porcupine.Operation {
		return porcupine.Operation{Input: simOp{write: write, value: value}, Output: output, Call: from, Return: to}
	}
	fresh := []porcupine.Operation{op(true, 1, 0, 1, 2), op(false, 0, 1, 3, 4), op(true, 2, 0, 3, math.MaxInt64), op(false, 0, 2, 5, 6)}
	if !check(t, 0, fresh) {
		t.Error("a linearizable history is refused")
	}
	if stale := append(fresh, op(false, 0, 1, 7, 8)); check(t, 0, stale) {
		t.Error("a stale read passes")
	}
}

// simHeld is a register as clients know it.
type simHeld struct {
	value   int
	expires bool
}

// registers is what clients may rely on: each key is a register. What expires may be gone
// at any time, and stays gone.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		keys := make([][]porcupine.Operation, simKeys)
		for _, op := range history {
			key := op.Input.(simOp).key
			keys[key] = append(keys[key], op)
		}
		return keys
	},
	Init: func() any { return simHeld{} },
	Step: func(state, input, output any) (bool, any) {
		op, held := input.(simOp), state.(simHeld)
		switch {
		case op.write:
			return true, simHeld{op.value, op.expires}
		case output == 0 && held.expires:
			return true, simHeld{} // from here on it is gone
		}
		return output == held.value, held
	},
}

// check reports whether a history is linearizable.
func check(t *testing.T, seed uint64, history []porcupine.Operation) bool {
	t.Helper()
	switch porcupine.CheckOperationsTimeout(registers, relevant(history), time.Minute) {
	case porcupine.Ok:
		return true
	case porcupine.Illegal:
		return false
	}
	t.Fatalf("seed %d: the checker has not come to an end", seed)
	return false
}

// relevant leaves out the writes of unknown outcome that no read has seen: they may
// always be put at the very end, and only cost the checker time. One that expires may be
// what a later read of nothing has seen.
func relevant(history []porcupine.Operation) []porcupine.Operation {
	seen := make(map[int]bool)
	var nothing [simKeys]int64 // when the last read of nothing returned
	for _, op := range history {
		if in := op.Input.(simOp); !in.write {
			seen[op.Output.(int)] = true
			if op.Output == 0 {
				nothing[in.key] = max(nothing[in.key], op.Return)
			}
		}
	}
	kept := history[:0:0]
	for _, op := range history {
		in := op.Input.(simOp)
		if !in.write || seen[in.value] || op.Return < 1<<62 || in.expires && op.Call < nothing[in.key] {
			kept = append(kept, op)
		}
	}
	return kept
}

// TestLinearizable runs the real thing through every climate. A seed fixes what goes
// wrong and when, but not always which goroutine is first of those that wake at the same
// moment: to see a failure again, run its seed many times.
func TestLinearizable(t *testing.T) {
	inOrder(t)
	var sums [len(climates)]reached
	t.Run("climates", func(t *testing.T) {
		for climate := range climates {
			t.Run(climateNames[climate], func(t *testing.T) {
				t.Parallel()
				sums[climate] = runClimate(t, climate)
				t.Logf("%+v", sums[climate])
			})
		}
	})
	if *seedFlag != 0 || *runsFlag < enoughRuns || t.Failed() {
		return
	}
	var total reached
	for _, sum := range sums {
		total.add(sum)
	}
	total.complain(t)
}

// runClimate runs its seeds and returns what they reached.
func runClimate(t *testing.T, climate int) (sum reached) {
	for run := range uint64(*runsFlag) {
		seed := run + 1
		if *seedFlag != 0 {
			seed = *seedFlag
		}
		history, r := simulate(t, seed, climate, simOptions{})
		if !check(t, seed, history) {
			t.Fatalf("not linearizable; try -lease.seed=%d with many -lease.runs", seed)
		}
		r.Runs, r.Operations = 1, uint64(len(history))
		sum.add(r)
	}
	return sum
}
