package ctl

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/bench"
)

// benchOptions are the options of -bench. None may have the name of a command.
func benchOptions() []*option {
	opts := []*option{
		{name: "workers", value: "N", summary: "requests in flight at most (default 32)",
			set: count(func(o *options) *int { return &o.bench.Workers })},
		{name: "connections", aliases: []string{"conns"}, value: "N",
			summary: "connections, spread over the addresses of -a (default: as many as workers, at most 8)",
			set:     count(func(o *options) *int { return &o.connections })},
		{name: "duration", value: "DURATION", summary: "how long to measure (default 10s)",
			set: positive(func(o *options) *time.Duration { return &o.bench.Duration })},
		{name: "count", value: "N", summary: "end after N operations instead",
			set: unsigned(func(o *options) *uint64 { return &o.bench.Count })},
		{name: "warmup", value: "DURATION", summary: "how long to run before measuring (default 1s; 0 with -ledger)", set: setWarmup},
		{name: "rate", value: "N", summary: "open loop: begin N operations a second whatever the server does, and measure latency from the intended start",
			set: fraction(func(o *options) *float64 { return &o.bench.Rate }, 0, math.MaxFloat64)},
		{name: "keySize", value: "BYTES", summary: "(default 16; 32 with -ledger)", set: count(func(o *options) *int { return &o.bench.KeySize })},
		{name: "valueSize", value: "BYTES", summary: "(default 128)", set: unsignedInt(func(o *options) *int { return &o.bench.ValueSize })},
		{name: "keyCount", value: "N", summary: "number of keys (default 100000)", set: unsigned(func(o *options) *uint64 { return &o.bench.Keys })},
		{name: "keyPrefix", value: "TEXT", summary: "what the keys begin with (default k)", set: text(func(o *options) *string { return &o.bench.Prefix })},
		{name: "zipf", value: "THETA", summary: "choose keys by Zipf's law, 0 < THETA < 1, usually 0.99 (default: uniformly)",
			set: fraction(func(o *options) *float64 { return &o.bench.Zipf }, 0, 0.9999)},
		{name: "readRatio", value: "R", summary: "share of gets in mixed, 0 to 1 (default 0.5)",
			set: fraction(func(o *options) *float64 { return &o.bench.ReadRatio }, 0, 1)},
		{name: "batch", value: "N", summary: "keys in a multiput or multiget (default 10)", set: count(func(o *options) *int { return &o.bench.Batch })},
		{name: "scan", value: "N", summary: "pairs in an iterate (default 100)", set: count(func(o *options) *int { return &o.bench.Scan })},
		{name: "preload", summary: "write every key first (default true for operations that read; -preload=false where they are there)", set: setPreload},
		{name: "seed", value: "N", summary: "seed of keys and values (default 1)", set: unsigned(func(o *options) *uint64 { return &o.bench.Seed })},
		{name: "stopOnError", summary: "end at the first unavailable server instead of trying again", set: boolean(func(o *options) *bool { return &o.bench.StopOnError })},
		{name: "ledger", value: "FILE", summary: "put: append every acknowledged key to FILE; check: read them back", set: text(func(o *options) *string { return &o.ledger })},
		{name: "ref", value: "HOST:PORT", summary: "compare with the server there: both run by turns", set: setReference},
		{name: "rounds", value: "N", summary: "rounds of a comparison (default 3)", set: count(func(o *options) *int { return &o.rounds })},
		{name: "progress", value: "DURATION", summary: "how often a line on stderr tells the progress; 0 is never (default 1s; -addNode: on a terminal)", set: setProgress},
		{name: "serveEcho", value: "HOST:PORT", summary: "be a reference server that answers at once and keeps nothing; port 0 takes a free one",
			set: loopback(func(o *options) *string { return &o.serveEcho })},
		{name: "serveFsync", value: "HOST:PORT", summary: "be a reference server that fsyncs each put into the folder named by the argument",
			set: loopback(func(o *options) *string { return &o.serveFsync })},
	}
	for _, o := range opts {
		o.commands = []string{"bench"}
		if o.name == "progress" {
			o.commands = append(o.commands, "addNode")
		}
	}
	return opts
}

func setWarmup(o *options, value string) error {
	return notNegative(func(o *options) *time.Duration { return &o.bench.Warmup })(o, value)
}

func setProgress(o *options, value string) error {
	return notNegative(func(o *options) *time.Duration { return &o.progress })(o, value)
}

func setPreload(o *options, value string) error {
	o.preload = new(bool)
	return boolean(func(o *options) *bool { return o.preload })(o, value)
}

func setReference(o *options, value string) error {
	var named options
	if err := setAddrs(&named, value); err != nil {
		return err
	}
	if len(named.addrs) != 1 {
		return errors.New("one address, please")
	}
	o.reference = value
	return nil
}

func notNegative(field func(*options) *time.Duration) func(*options, string) error {
	return func(o *options, value string) error {
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

// count is a whole number from 1 on.
func count(field func(*options) *int) func(*options, string) error {
	return func(o *options, value string) error {
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 1 {
			return fmt.Errorf("not a whole number from 1 to %d", math.MaxInt32)
		}
		*field(o) = int(n)
		return nil
	}
}

func unsignedInt(field func(*options) *int) func(*options, string) error {
	return func(o *options, value string) error {
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("not a whole number from 0 to %d", math.MaxInt32)
		}
		*field(o) = int(n)
		return nil
	}
}

// fraction is a number between low and high.
func fraction(field func(*options) *float64, low, high float64) func(*options, string) error {
	return func(o *options, value string) error {
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(f) || f < low || f > high {
			if high == math.MaxFloat64 {
				return fmt.Errorf("not a number from %g on", low)
			}
			return fmt.Errorf("not a number from %g to %g", low, high)
		}
		*field(o) = f
		return nil
	}
}

// loopback is an address that only this machine can reach: the reference
// servers know neither TLS nor tokens.
func loopback(field func(*options) *string) func(*options, string) error {
	return func(o *options, value string) error {
		host, _, err := net.SplitHostPort(value)
		if err != nil {
			return fmt.Errorf("not host:port, such as 127.0.0.1:0")
		}
		if !bench.IsLoopback(host) {
			return fmt.Errorf("%q is not a loopback address such as 127.0.0.1: reference servers have no protection", host)
		}
		*field(o) = value
		return nil
	}
}
