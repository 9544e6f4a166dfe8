package chaos

import (
	"fmt"
	"hash/maphash"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

type opKind int

const (
	opGet opKind = iota
	opPut
	opCAS
	opAdd
)

// input is the request of an operation. A key holds either values that are each written
// once, or a counter in decimal; empty means absent.
type input struct {
	kind  opKind
	key   string
	old   string // expected by opCAS
	value string // of opPut and opCAS
	delta int64  // of opAdd
}

// output is the result of an operation.
type output struct {
	unknown bool   // whether and when it took effect
	value   string // of opGet, and the new one of opAdd
	updated bool   // of opCAS
	history string // that the answer to a mutation names
}

// openEnded is the return time of an operation whose outcome is unknown: it may take
// effect at any time from its call on, or never, which is the same as after all others.
const openEnded = math.MaxInt64

// register is a key's sequential behaviour: its state is the value.
func register() porcupine.Model {
	seed := maphash.MakeSeed()
	return porcupine.Model{
		Partition:         byKey,
		Init:              func() any { return "" },
		Step:              func(state, in, out any) (bool, any) { return step(state.(string), in.(input), out.(output)) },
		Hash:              func(state any) uint64 { return maphash.String(seed, state.(string)) },
		DescribeOperation: describe,
	}
}

func step(state string, in input, out output) (bool, any) {
	switch in.kind {
	case opGet:
		return out.value == state, state
	case opPut:
		return true, in.value
	case opCAS:
		next := state
		if state == in.old {
			next = in.value
		}
		return out.unknown || out.updated == (state == in.old), next
	case opAdd:
		n, _ := strconv.ParseInt(state, 10, 64) // an absent one counts as 0
		next := strconv.FormatInt(n+in.delta, 10)
		return out.unknown || out.value == next, next
	default:
		panic(fmt.Sprintf("operation %d", in.kind))
	}
}

func byKey(history []porcupine.Operation) [][]porcupine.Operation {
	index := make(map[string]int)
	var out [][]porcupine.Operation
	for _, op := range history {
		key := op.Input.(input).key
		i, known := index[key]
		if !known {
			i = len(out)
			index[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], op)
	}
	return out
}

func describe(in, out any) string {
	i, o := in.(input), out.(output)
	result := ""
	if o.unknown {
		result = ": outcome unknown"
	}
	switch i.kind {
	case opGet:
		return fmt.Sprintf("get %s: %q", i.key, o.value)
	case opPut:
		return fmt.Sprintf("put %s = %s%s", i.key, i.value, result)
	case opCAS:
		if !o.unknown {
			result = fmt.Sprintf(": %t", o.updated)
		}
		return fmt.Sprintf("cas %s: %q -> %s%s", i.key, i.old, i.value, result)
	default:
		if !o.unknown {
			result = ": " + o.value
		}
		return fmt.Sprintf("add %s: %d%s", i.key, i.delta, result)
	}
}

// history collects the operations of all clients, timed by one clock.
type history struct {
	start time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func newHistory() *history { return &history{start: time.Now()} }

// now is in nanoseconds since the start.
func (h *history) now() int64 { return int64(time.Since(h.start)) }

func (h *history) add(client int, in input, call int64, out output, end int64) {
	if out.unknown {
		end = openEnded
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end})
}

// check looks for an order that explains the history. A search that takes too long is a
// failure.
func (h *history) check(limit time.Duration) (porcupine.CheckResult, porcupine.LinearizationInfo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	result := porcupine.CheckOperationsTimeout(register(), h.ops, limit)
	if result != porcupine.Illegal {
		return result, porcupine.LinearizationInfo{}
	}
	return porcupine.CheckOperationsVerbose(register(), h.ops, limit)
}
