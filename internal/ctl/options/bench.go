package options

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/bench"
)

// benchOptions are the options of -bench. None may have the name of a command.
func benchOptions() []*Option {
	opts := []*Option{
		{Name: "workers", value: "N", summary: "requests in flight at most (default 32)",
			set: count(func(o *Options) *int { return &o.Bench.Workers })},
		{Name: "connections", aliases: []string{"conns"}, value: "N",
			summary: "connections, spread over the addresses of -a (default: as many as workers, at most 8)",
			set:     count(func(o *Options) *int { return &o.Connections })},
		{Name: "duration", value: "DURATION", summary: "how long to measure (default 10s)",
			set: positive(func(o *Options) *time.Duration { return &o.Bench.Duration })},
		{Name: "count", value: "N", summary: "end after N operations instead",
			set: unsigned(func(o *Options) *uint64 { return &o.Bench.Count })},
		{Name: "warmup", value: "DURATION", summary: "how long to run before measuring (default 1s; 0 with -ledger)", set: setWarmup},
		{Name: "rate", value: "N", summary: "open loop: begin N operations a second whatever the server does, and measure latency from the intended start",
			set: fraction(func(o *Options) *float64 { return &o.Bench.Rate }, 0, maxRate)},
		{Name: "keySize", value: "BYTES", summary: "(default 16; 32 with -ledger)", set: count(func(o *Options) *int { return &o.Bench.KeySize })},
		{Name: "valueSize", value: "BYTES", summary: "(default 128)", set: unsignedInt(func(o *Options) *int { return &o.Bench.ValueSize })},
		{Name: "keyCount", value: "N", summary: "number of keys (default 100000)", set: unsigned(func(o *Options) *uint64 { return &o.Bench.Keys })},
		{Name: "keyPrefix", value: "TEXT", summary: "what the keys begin with (default k)", set: text(func(o *Options) *string { return &o.Bench.Prefix })},
		{Name: "zipf", value: "THETA", summary: "choose keys by Zipf's law, 0 < THETA < 1, usually 0.99 (default: uniformly)",
			set: fraction(func(o *Options) *float64 { return &o.Bench.Zipf }, 0, 0.9999)},
		{Name: "readRatio", value: "R", summary: "share of gets in mixed, 0 to 1 (default 0.5)",
			set: fraction(func(o *Options) *float64 { return &o.Bench.ReadRatio }, 0, 1)},
		{Name: "batch", value: "N", summary: "keys in a multiput or multiget (default 10)", set: count(func(o *Options) *int { return &o.Bench.Batch })},
		{Name: "scan", value: "N", summary: "pairs in an iterate (default 100)", set: count(func(o *Options) *int { return &o.Bench.Scan })},
		{Name: "preload", summary: "write every key first (default true for operations that read; -preload=false if they exist)", set: setPreload},
		{Name: "seed", value: "N", summary: "seed of keys and values (default 1)", set: unsigned(func(o *Options) *uint64 { return &o.Bench.Seed })},
		{Name: "stopOnError", summary: "end at the first unavailable server instead of trying again", set: boolean(func(o *Options) *bool { return &o.Bench.StopOnError })},
		{Name: "ledger", value: "FILE", summary: "put: append every acknowledged key to FILE; check: read them back", set: text(func(o *Options) *string { return &o.Ledger })},
		{Name: "ref", value: "HOST:PORT", summary: "compare with the server at this address: both are measured in turn", set: setReference},
		{Name: "pids", value: "P,P,P", summary: "ids of the servers' processes on this machine: print their CPU time, context switches and system calls an operation (Linux)",
			set: setPIDs},
		{Name: "rounds", value: "N", summary: "rounds of a comparison (default 3)", set: count(func(o *Options) *int { return &o.Rounds })},
		{Name: "progress", value: "DURATION", summary: "how often progress is shown on stderr; 0 is never (default 1s; each 5s if it is no terminal; with -o json only if this is given)",
			set: setProgress},
	}
	for _, o := range opts {
		o.commands = []string{"bench"}
		if o.Name == "progress" {
			o.commands = append(o.commands, slow...)
		}
	}
	return opts
}

// benchOperations are the operations of -bench, and check, which reads a ledger back.
func benchOperations() []string {
	names := []string{"check"}
	for _, op := range bench.Operations() {
		names = append(names, string(op))
	}
	return names
}

// maxRate is one operation a nanosecond, which no clock tells apart.
const maxRate = 1e9

// slow are the commands that show their progress when they take a while.
var slow = []string{"addNode", "removeNode", "transferLeader", "stepDown", "snapshot", "backup", "restore", "verify", "drill"}

func setWarmup(o *Options, value string) error {
	return notNegative(func(o *Options) *time.Duration { return &o.Bench.Warmup })(o, value)
}

func setProgress(o *Options, value string) error {
	return notNegative(func(o *Options) *time.Duration { return &o.Progress })(o, value)
}

func setPreload(o *Options, value string) error {
	o.Preload = new(bool)
	return boolean(func(o *Options) *bool { return o.Preload })(o, value)
}

func setReference(o *Options, value string) error {
	var named Options
	if err := setAddrs(&named, value); err != nil {
		return err
	}
	if len(named.Addrs) != 1 {
		return errors.New("give one address, not several")
	}
	o.Reference = value
	return nil
}

func setPIDs(o *Options, value string) error {
	o.PIDs = nil
	for field := range strings.SplitSeq(value, ",") {
		pid, err := strconv.ParseInt(strings.TrimSpace(field), 10, 32)
		if err != nil || pid < 1 {
			return fmt.Errorf("%q is not a process id; give numbers separated by commas", field)
		}
		if slices.Contains(o.PIDs, int(pid)) {
			return fmt.Errorf("process %d is given twice", pid)
		}
		o.PIDs = append(o.PIDs, int(pid))
	}
	return nil
}

func notNegative(field func(*Options) *time.Duration) func(*Options, string) error {
	return func(o *Options, value string) error {
		d, err := parseDuration(value)
		if err != nil {
			return err
		}
		if d < 0 {
			return errors.New("must not be negative")
		}
		*field(o) = d
		return nil
	}
}

// count sets a whole number of at least 1.
func count(field func(*Options) *int) func(*Options, string) error {
	return func(o *Options, value string) error {
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 1 {
			return fmt.Errorf("not a whole number from 1 to %d", math.MaxInt32)
		}
		*field(o) = int(n)
		return nil
	}
}

func unsignedInt(field func(*Options) *int) func(*Options, string) error {
	return func(o *Options, value string) error {
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("not a whole number from 0 to %d", math.MaxInt32)
		}
		*field(o) = int(n)
		return nil
	}
}

// fraction sets a number from low to high.
func fraction(field func(*Options) *float64, low, high float64) func(*Options, string) error {
	return func(o *Options, value string) error {
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(f) || f < low || f > high {
			if high == math.MaxFloat64 {
				return fmt.Errorf("not a number of at least %g", low)
			}
			return fmt.Errorf("not a number from %g to %g", low, high)
		}
		*field(o) = f
		return nil
	}
}
