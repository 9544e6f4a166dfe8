package ctl

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/bench"
	"github.com/dkvdb/dkv/internal/kv"
)

const (
	defaultAddr    = "127.0.0.1:8080"
	defaultTimeout = 5 * time.Second
	defaultPoll    = 200 * time.Millisecond
)

// options are all that can be said beside the command and its arguments.
type options struct {
	given     map[string]bool // what was said, by the full names
	addrs     []string
	authority string
	timeout   time.Duration // 0 leaves it to the command
	json      bool

	tls                       bool
	caFile, certFile, keyFile string
	token, tokenFile          string
	level                     kv.ReadLevel
	ttl                       time.Duration // 0 means that the key never expires
	fromStdin, maySplit       bool
	limit                     uint64
	reverse                   bool
	from                      uint64
	poll                      time.Duration
	vBucket                   string
	force, nonVoting, verbose bool
	bench                     bench.Config
	preload                   *bool // nil leaves it to the operation
	connections, rounds       int
	ledger, reference         string
	serveEcho, serveFsync     string
	progress                  time.Duration
}

func defaultOptions() *options {
	return &options{
		given:    make(map[string]bool),
		addrs:    []string{defaultAddr},
		level:    kv.Linearizable,
		poll:     defaultPoll,
		rounds:   3,
		progress: time.Second,
		bench:    bench.DefaultConfig(),
	}
}

// option describes one option: parser, help and tests read the same table.
type option struct {
	name     string
	aliases  []string
	value    string // what stands for the value in the help; empty for a boolean
	summary  string
	commands []string // nil means every command
	set      func(o *options, value string) error
}

func (o *option) appliesTo(c *command) bool {
	return o.commands == nil || slices.Contains(o.commands, c.name)
}

// names returns the spellings that are at least as long as shortest.
func (o *option) names(shortest int) []string {
	var names []string
	for _, n := range append([]string{o.name}, o.aliases...) {
		if len(n) >= shortest {
			names = append(names, n)
		}
	}
	return names
}

func optionTable() []*option {
	return slices.Concat(connectionOptions(), dataOptions(), benchOptions())
}

func connectionOptions() []*option {
	return []*option{
		{name: "dkvAddr", aliases: []string{"a"}, value: "HOST:PORT[,...]",
			summary: "the nodes to ask, each in turn until one answers (default " + defaultAddr + ")", set: setAddrs},
		{name: "authority", value: "NAME",
			summary: "the :authority to send and, with TLS, the name the certificate must have",
			set:     text(func(o *options) *string { return &o.authority })},
		{name: "timeout", value: "DURATION",
			summary: "how long a request may take, 500ms or (in seconds) 5 (default 5s, more where the command's own help says so)",
			set:     positive(func(o *options) *time.Duration { return &o.timeout })},
		{name: "output", aliases: []string{"o"}, value: "text|json", summary: "how results are written (default text)", set: setOutput},
		{name: "tls", summary: "speak TLS", set: boolean(func(o *options) *bool { return &o.tls })},
		{name: "caCert", value: "FILE", summary: "PEM certificates to trust instead of the system's; implies -tls",
			set: text(func(o *options) *string { return &o.caFile })},
		{name: "cert", value: "FILE", summary: "PEM client certificate, with -key; implies -tls",
			set: text(func(o *options) *string { return &o.certFile })},
		{name: "key", value: "FILE", summary: "PEM key of -cert", set: text(func(o *options) *string { return &o.keyFile })},
		{name: "token", value: "TOKEN",
			summary: "bearer token; other users of this machine see it: better -tokenFile, or DKVCTL_TOKEN_FILE in the environment",
			set:     text(func(o *options) *string { return &o.token })},
		{name: "tokenFile", value: "FILE", summary: "file that holds the bearer token",
			set: text(func(o *options) *string { return &o.tokenFile })},
	}
}

func dataOptions() []*option {
	return []*option{
		{name: "ttl", value: "DURATION", commands: []string{"set", "mset", "cas", "incr"},
			summary: "expire the key after this time, rounded up to seconds",
			set:     positive(func(o *options) *time.Duration { return &o.ttl })},
		{name: "split", commands: []string{"mset"}, summary: "set keys of several vBuckets too: all or none within each vBucket only",
			set: boolean(func(o *options) *bool { return &o.maySplit })},
		{name: "stdin", commands: []string{"set"}, summary: "read the value from standard input, byte for byte",
			set: boolean(func(o *options) *bool { return &o.fromStdin })},
		{name: "level", value: "seq|lin", commands: []string{"get", "mget", "iter", "keys", "bench"},
			summary: "sequential (local state, may lag) or linearizable reads (default lin)", set: setLevel},
		{name: "limit", value: "N", commands: []string{"iter", "keys", "watch"}, summary: "end after N results; 0 is no limit",
			set: unsigned(func(o *options) *uint64 { return &o.limit })},
		{name: "reverse", commands: []string{"iter", "keys"}, summary: "greatest key first",
			set: boolean(func(o *options) *bool { return &o.reverse })},
		{name: "from", value: "N", commands: []string{"watch"},
			summary: "begin at this change number; 0 or 1 is the oldest retained one (default: new changes only)", set: unsigned(func(o *options) *uint64 { return &o.from })},
		{name: "poll", value: "DURATION", commands: []string{"watch"}, summary: "how often to ask for new changes (default 200ms)",
			set: positive(func(o *options) *time.Duration { return &o.poll })},
		{name: "vBucket", value: "NAME", commands: []string{"watch", "verify", "transferLeader", "resync"}, summary: "only this vBucket",
			set: text(func(o *options) *string { return &o.vBucket })},
		{name: "nonVoting", commands: []string{"addNode"}, summary: "leave it without a vote: it serves reads and costs writers nothing; without this, -addNode gives it one later",
			set: boolean(func(o *options) *bool { return &o.nonVoting })},
		{name: "v", commands: []string{"status", "listNodes"}, summary: "tell more: the Raft timing of each node, and of the cluster",
			set: boolean(func(o *options) *bool { return &o.verbose })},
		{name: "force", commands: []string{"removeNode", "resync"},
			summary: "remove it even if the members that are left and up are no majority; rebuild a copy that is well, too",
			set:     boolean(func(o *options) *bool { return &o.force })},
	}
}

func setAddrs(o *options, value string) error {
	addrs := strings.Split(value, ",")
	for i, addr := range addrs {
		addrs[i] = strings.TrimSpace(addr)
		if strings.Contains(addr, "://") {
			return fmt.Errorf("%q is a URL: write host:port, such as %s", addr, defaultAddr)
		}
		host, port, err := net.SplitHostPort(addrs[i])
		if err != nil || host == "" {
			return fmt.Errorf("%q is not host:port, such as %s", addr, defaultAddr)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("the port of %q is not a number from 1 to 65535", addr)
		}
	}
	o.addrs = addrs
	return nil
}

func setOutput(o *options, value string) error {
	switch strings.ToLower(value) {
	case "text":
		o.json = false
	case "json":
		o.json = true
	default:
		return errors.New("the formats are text and json")
	}
	return nil
}

func setLevel(o *options, value string) error {
	switch strings.ToLower(value) {
	case "seq", "sequential":
		o.level = kv.Sequential
	case "lin", "linearizable":
		o.level = kv.Linearizable
	default:
		return errors.New("the levels are seq and lin")
	}
	return nil
}

// The functions below make the setter of an option from the place of its value.

func text(field func(*options) *string) func(*options, string) error {
	return func(o *options, value string) error {
		if value == "" {
			return errors.New("the value is empty")
		}
		*field(o) = value
		return nil
	}
}

func boolean(field func(*options) *bool) func(*options, string) error {
	return func(o *options, value string) error {
		b, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("the values are true and false")
		}
		*field(o) = b
		return nil
	}
}

func unsigned(field func(*options) *uint64) func(*options, string) error {
	return func(o *options, value string) error {
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return errors.New("not a whole number from 0 on")
		}
		*field(o) = n
		return nil
	}
}

func positive(field func(*options) *time.Duration) func(*options, string) error {
	return func(o *options, value string) error {
		d, err := parseDuration(value)
		if err != nil {
			return err
		}
		if d <= 0 {
			return errors.New("must be more than 0")
		}
		*field(o) = d
		return nil
	}
}

// parseDuration reads a Go duration or a bare number of seconds.
func parseDuration(value string) (time.Duration, error) {
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		if math.IsNaN(seconds) || math.Abs(seconds) > math.MaxInt64/1e9 {
			return 0, errors.New("the duration is out of range")
		}
		return time.Duration(seconds * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0, errors.New("not a duration such as 500ms, 10s, 2m or a number of seconds")
	}
	return d, nil
}
