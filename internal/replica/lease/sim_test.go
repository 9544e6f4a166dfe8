package lease

import (
	"flag"
	"reflect"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

var (
	seedFlag   = flag.Uint64("lease.seed", 0, "run only this seed of the simulation")
	runsFlag   = flag.Int("lease.runs", 800, "how many seeds the simulation runs")
	mutantFlag = flag.Int("lease.mutantruns", 2000, "how many seeds may be needed to find a rule missing")
)

// add sums up what runs reached.
func (r *reached) add(o reached) {
	sum, more := reflect.ValueOf(r).Elem(), reflect.ValueOf(o)
	for i := range sum.NumField() {
		sum.Field(i).SetUint(sum.Field(i).Uint() + more.Field(i).Uint())
	}
}

// registers is what clients may rely on: each key is a register.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		keys := make([][]porcupine.Operation, simKeys)
		for _, op := range history {
			key := op.Input.(simOp).key
			keys[key] = append(keys[key], op)
		}
		return keys
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		op := input.(simOp)
		if op.write {
			return true, op.value
		}
		return state == output, state
	},
}

// check tells whether a history is linearizable.
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

// relevant leaves out the writes of unknown outcome that nobody has seen: they
// may always be put at the very end, and only cost the checker time.
func relevant(history []porcupine.Operation) []porcupine.Operation {
	seen := make(map[int]bool)
	for _, op := range history {
		if !op.Input.(simOp).write {
			seen[op.Output.(int)] = true
		}
	}
	kept := history[:0:0]
	for _, op := range history {
		if in := op.Input.(simOp); !in.write || seen[in.value] || op.Return < 1<<62 {
			kept = append(kept, op)
		}
	}
	return kept
}

func TestLinearizable(t *testing.T) {
	first, runs := uint64(1), *runsFlag
	if *seedFlag != 0 {
		first, runs = *seedFlag, 1
	}
	var sum reached
	for seed := first; seed < first+uint64(runs); seed++ {
		history, r := simulate(t, seed, simOptions{})
		if !check(t, seed, history) {
			t.Fatalf("not linearizable; repeat it with -lease.seed=%d", seed)
		}
		r.Runs, r.Operations = 1, uint64(len(history))
		sum.add(r)
	}
	t.Logf("%+v", sum)
}

// TestRules takes one rule away at a time, and then one of the assumptions, and
// wants to see what it was there for.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		name string
		o    simOptions
	}{
		{"no wait-out", simOptions{rules: rules{noWaitOut: true}}},
		{"half a wait-out", simOptions{rules: rules{shortWaitOut: true}}},
		{"no allowance for drift", simOptions{rules: rules{waitAlone: true}}},
		{"waiting for one's own lease length", simOptions{ownLength: true}},
		{"no fence", simOptions{noFence: true}},
		{"no second look at the lease", simOptions{rules: rules{noRecheck: true}}},
		{"no second look at a confirmation", simOptions{rules: rules{noRecheckConfirmed: true}}},
		{"ReadIndex during the wait-out", simOptions{rules: rules{readWhileWaiting: true}}},
		{"lease from the end of ReadIndex", simOptions{rules: rules{leaseFromEnd: true}}},
		{"whoever answers ReadIndex", simOptions{rules: rules{noLeaderCheck: true}}},
		{"END before the lease is revoked", simOptions{rules: rules{endFirst: true}}},
		{"END of an epoch that was never active", simOptions{rules: rules{endUnused: true}}},
		{"any earlier epoch of the replica's counts as its own", simOptions{rules: rules{trustOwner: true}}},
		{"joining a ReadIndex that has begun", simOptions{rules: rules{joinRunning: true}}},
		{"a clock that stops with its process", simOptions{suspendedClock: true}},
		{"a clock that leaps while its process waits", simOptions{jumpWhileWaiting: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := uint64(1); seed <= uint64(*mutantFlag); seed++ {
				if history, _ := simulate(t, seed, c.o); !check(t, seed, history) {
					t.Logf("found by seed %d", seed)
					return
				}
			}
			t.Errorf("%d seeds have not found it", *mutantFlag)
		})
	}
}
