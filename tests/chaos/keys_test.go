package chaos

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// The checker's work on a key grows steeply with the number of operations whose outcome
// is unknown, so a key is replaced by a new one after a few of them, or after many
// operations.
const (
	registers, counters = 5, 2
	opsPerKey           = 300
	doubtsPerKey        = 5
)

// key is a key that many clients use.
type key struct {
	name   string
	counts bool // is a counter
	slot   int

	ops, doubts int // guarded by keys

	mu    sync.Mutex
	value string
}

// seen records a recent value of the key, for later compare-and-sets.
func (k *key) seen(v string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.value = v
}

func (k *key) last() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.value
}

// keys are the keys in use, and all that ever were.
type keys struct {
	mu    sync.Mutex
	slots []*key
	all   []*key
}

func newKeys() *keys {
	k := &keys{slots: make([]*key, registers+counters)}
	for slot := range k.slots {
		k.replace(slot)
	}
	return k
}

func (k *keys) replace(slot int) {
	n := &key{name: fmt.Sprintf("key-%d", len(k.all)), counts: slot >= registers, slot: slot}
	k.slots[slot] = n
	k.all = append(k.all, n)
}

func (k *keys) register(rng *rand.Rand) *key { return k.use(rng.IntN(registers)) }
func (k *keys) counter(rng *rand.Rand) *key  { return k.use(registers + rng.IntN(counters)) }

func (k *keys) use(slot int) *key {
	k.mu.Lock()
	defer k.mu.Unlock()
	if used := k.slots[slot]; used.ops >= opsPerKey || used.doubts >= doubtsPerKey {
		k.replace(slot)
	}
	k.slots[slot].ops++
	return k.slots[slot]
}

// doubt records an operation whose outcome is unknown.
func (k *keys) doubt(of *key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	of.doubts++
}

// used are all keys that were ever in use.
func (k *keys) used() []*key {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]*key(nil), k.all...)
}
