// Package bench generates load on a DKV server and measures how it answers.
//
// A closed loop keeps a number of workers busy: each sends its next request
// when the last one is answered. It finds the throughput that a server
// sustains. An open loop begins operations at a fixed rate whatever the server
// does, and measures each from the moment when it should have begun: a stall
// shows in the latency of every operation that it held up, instead of being
// hidden by the workers that waited ("coordinated omission", Gil Tene).
//
// Absolute numbers drift with the machine. Compare therefore runs a reference
// server and the target in turn and reports the ratio.
package bench

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Operation names what the workers do.
type Operation string

// The operations.
const (
	Put      Operation = "put"
	Get      Operation = "get"
	Mixed    Operation = "mixed" // gets and puts
	Iterate  Operation = "iterate"
	MultiPut Operation = "multiput"
	MultiGet Operation = "multiget"
	CAS      Operation = "cas"
	Incr     Operation = "incr"
	Echo     Operation = "echo" // only an echo server answers it
)

// Operations returns all operations.
func Operations() []Operation {
	return []Operation{Put, Get, Mixed, Iterate, MultiPut, MultiGet, CAS, Incr, Echo}
}

// Config describes one run.
type Config struct {
	Operation Operation
	// Workers bounds the requests in flight.
	Workers int
	// Duration is how long to measure; with Count it is only a bound, and 0 is none.
	Duration time.Duration
	// Count ends the run after so many operations; 0 means no such end.
	Count uint64
	// Warmup runs the same load before, unmeasured.
	Warmup time.Duration
	// Rate makes the loop an open one with so many operations a second; 0
	// means a closed loop.
	Rate float64
	// KeySize and ValueSize are in bytes.
	KeySize, ValueSize int
	// Keys is the number of keys.
	Keys uint64
	// Prefix is what every key begins with.
	Prefix string
	// Zipf is the skew with which keys are chosen, 0 < Zipf < 1; 0 chooses
	// uniformly.
	Zipf float64
	// ReadRatio is the share of gets in Mixed, from 0 to 1.
	ReadRatio float64
	// Batch is the number of keys in a MultiPut or MultiGet, Scan that of
	// pairs in an Iterate.
	Batch, Scan int
	// Linearizable reads; otherwise sequential ones.
	Linearizable bool
	// Preload writes every key before the run.
	Preload bool
	// StopOnError ends the run at the first unavailable server.
	StopOnError bool
	// Seed makes the choice of keys and values repeatable.
	Seed uint64
	// Timeout bounds each operation.
	Timeout time.Duration
	// Ledger, if not nil, makes Put write a fresh key each time and records
	// what was acknowledged.
	Ledger *Ledger
}

// DefaultConfig returns the load that is generated if nothing else is given:
// 16-byte keys, 128-byte values, 32 workers for 10 s. Preload is left to
// Operation.Reads.
func DefaultConfig() Config {
	return Config{Operation: Mixed, Workers: 32, Duration: 10 * time.Second, Warmup: time.Second, KeySize: 16,
		ValueSize: 128, Keys: 100_000, Prefix: "k", ReadRatio: 0.5, Batch: 10, Scan: 100, Linearizable: true,
		Seed: 1, Timeout: 5 * time.Second}
}

// Reads reports whether the operation needs keys that exist.
func (o Operation) Reads() bool {
	switch o {
	case Get, Mixed, Iterate, MultiGet, CAS:
		return true
	default:
		return false
	}
}

// ParseOperation finds the operation of a name.
func ParseOperation(name string) (Operation, error) {
	var names []string
	for _, o := range Operations() {
		if strings.EqualFold(name, string(o)) {
			return o, nil
		}
		names = append(names, string(o))
	}
	if strings.EqualFold(name, "multi") {
		return MultiPut, nil
	}
	return "", fmt.Errorf("there is no operation %q: the operations are %s", name, strings.Join(names, ", "))
}

// Validate says what cannot be run.
func (c *Config) Validate() error {
	digits := c.KeySize - len(c.keyPrefix())
	switch {
	case c.Workers < 1:
		return errors.New("workers: at least one is needed")
	case c.Duration <= 0 && c.Count == 0:
		return errors.New("a run needs a duration or a count")
	case c.Keys < 1:
		return errors.New("keyCount: at least one key is needed")
	case c.Zipf < 0 || c.Zipf >= 1:
		return errors.New("zipf: the skew must be below 1")
	case c.Ledger != nil && c.Operation != Put:
		return errors.New("a ledger needs the operation put")
	case c.Ledger != nil && digits < ledgerDigits:
		return fmt.Errorf("keySize: with a ledger and prefix %q keys need at least %d bytes", c.Prefix, len(c.Prefix)+ledgerDigits)
	case c.Ledger == nil && !fitsDecimal(c.Keys-1, digits):
		return fmt.Errorf("keySize: %d keys with prefix %q need more than %d bytes", c.Keys, c.Prefix, c.KeySize)
	case c.Ledger != nil && strings.ContainsAny(c.Prefix, " \n"):
		return errors.New("keyPrefix: spaces and line ends do not fit into a ledger")
	}
	return nil
}

// keyPrefix is what the keys of the operation begin with. Counters have keys of
// their own: the values of the others are none.
func (c *Config) keyPrefix() string {
	if c.Operation == Incr {
		return c.Prefix + "#"
	}
	return c.Prefix
}
