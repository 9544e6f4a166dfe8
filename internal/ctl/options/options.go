// Package options reads the command line of dkvctl and its environment: the commands and
// options that there are, what each takes, and the help. It runs nothing.
package options

import (
	"errors"
	"fmt"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/bench"
	"github.com/dkvdb/dkv/internal/kv"
)

const (
	// DefaultAddr is the node that is asked if none is named.
	DefaultAddr = "127.0.0.1:8080"
	// DefaultTimeout bounds a request of most commands.
	DefaultTimeout = 5 * time.Second
	defaultPoll    = 200 * time.Millisecond
	// defaultDir is the folder of -certs.
	defaultDir = "certs"
)

// Options are all that can be given besides the command and its arguments.
type Options struct {
	Given     map[string]bool // the options on the command line, by their full names
	Addrs     []string
	Authority string
	Timeout   time.Duration // 0 leaves it to the command
	JSON      bool

	TLS                               bool
	CAFile, CertFile, KeyFile         string
	Token, TokenFile                  string
	Level                             kv.ReadLevel
	TTL                               time.Duration // 0 means that the key never expires
	FromStdin, MaySplit               bool
	Limit                             uint64
	Reverse                           bool
	From                              uint64
	Poll                              time.Duration
	Frames                            int
	Quiet                             bool
	VBucket                           string
	Force, NonVoting, Verbose, Cancel bool
	Abandon, Planned                  bool
	Yes                               bool
	Lasts, Delay                      time.Duration // of a fault; 0 leaves it to the drill
	With                              []string      // where other slaves serve gRPC, host:port
	Bench                             bench.Config
	Preload                           *bool // nil leaves it to the operation
	Connections, Rounds               int
	Ledger, Reference                 string
	PIDs                              []int
	Progress                          time.Duration

	Dir, NodeName string
	Days          int // 0 leaves it to the kind of certificate
	Loopback      bool

	AuthFile                   string
	Roles, Databases, Prefixes []string
}

// DefaultOptions returns what applies if nothing is given.
func DefaultOptions() *Options {
	return &Options{
		Given:    make(map[string]bool),
		Addrs:    []string{DefaultAddr},
		Level:    kv.Linearizable,
		Poll:     defaultPoll,
		Dir:      defaultDir,
		Loopback: true,
		Rounds:   3,
		Progress: time.Second,
		Bench:    bench.DefaultConfig(),
	}
}

// Option describes one option, for the parser, the help and tests.
type Option struct {
	Name     string
	aliases  []string
	value    string // what stands for the value in the help; empty for a boolean
	summary  string
	words    []string // of which the value is a list; nil if it is something else
	commands []string // nil means every command
	set      func(o *Options, value string) error
}

func (o *Option) appliesTo(c *Command) bool {
	if o.commands == nil && c.group == groupSecurity { // they call no node
		return o.Name == "output" || o.Name == "tokenFile" && c.Name == "token"
	}
	return o.commands == nil || slices.Contains(o.commands, c.Name)
}

// names returns the spellings that are at least as long as shortest.
func (o *Option) names(shortest int) []string {
	var names []string
	for _, n := range append([]string{o.Name}, o.aliases...) {
		if len(n) >= shortest {
			names = append(names, n)
		}
	}
	return names
}

// Table returns all options, in the order of the help.
func Table() []*Option {
	return slices.Concat(connectionOptions(), dataOptions(), securityOptions(), benchOptions())
}

func connectionOptions() []*Option {
	return []*Option{
		{Name: "dkvAddr", aliases: []string{"a"}, value: "HOST:PORT[,...]",
			summary: "the nodes to ask, each in turn until one answers (default " + DefaultAddr + ")", set: setAddrs},
		{Name: "authority", value: "NAME",
			summary: "the :authority to send and, with TLS, the name the certificate must have",
			set:     text(func(o *Options) *string { return &o.Authority })},
		{Name: "timeout", value: "DURATION",
			summary: "how long a request may take, 500ms or (in seconds) 5 (default 5s, longer if the command's own help says so)",
			set:     positive(func(o *Options) *time.Duration { return &o.Timeout })},
		{Name: "output", aliases: []string{"o"}, value: "text|json", summary: "how results are written (default text)", set: setOutput},
		{Name: "tls", summary: "speak TLS", set: boolean(func(o *Options) *bool { return &o.TLS })},
		{Name: "caCert", value: "FILE", summary: "PEM certificates to trust instead of the system's; implies -tls",
			set: text(func(o *Options) *string { return &o.CAFile })},
		{Name: "cert", value: "FILE", summary: "PEM client certificate, with -key; implies -tls",
			set: text(func(o *Options) *string { return &o.CertFile })},
		{Name: "key", value: "FILE", summary: "PEM key of -cert", set: text(func(o *Options) *string { return &o.KeyFile })},
		{Name: "tokenFile", value: "FILE", summary: "file that holds the bearer token; -token new writes it",
			set: text(func(o *Options) *string { return &o.TokenFile })},
	}
}

func dataOptions() []*Option {
	return []*Option{
		{Name: "ttl", value: "DURATION", commands: []string{"set", "mset", "cas", "incr"},
			summary: "expire the key after this time, rounded up to seconds",
			set:     positive(func(o *Options) *time.Duration { return &o.TTL })},
		{Name: "split", commands: []string{"mset"}, summary: "set keys of several vBuckets too: all or none within each vBucket only",
			set: boolean(func(o *Options) *bool { return &o.MaySplit })},
		{Name: "stdin", commands: []string{"set"}, summary: "read the value from standard input, byte for byte",
			set: boolean(func(o *Options) *bool { return &o.FromStdin })},
		{Name: "level", value: "seq|lin", commands: []string{"get", "mget", "iter", "keys", "bench"},
			summary: "sequential (local state, may lag) or linearizable reads (default lin)", set: setLevel},
		{Name: "limit", value: "N", commands: []string{"iter", "keys", "watch"}, summary: "end after N results; 0 is no limit",
			set: unsigned(func(o *Options) *uint64 { return &o.Limit })},
		{Name: "reverse", commands: []string{"iter", "keys"}, summary: "greatest key first",
			set: boolean(func(o *Options) *bool { return &o.Reverse })},
		{Name: "from", value: "N", commands: []string{"watch"},
			summary: "begin at this change number; 0 or 1 is the oldest retained one (default: new changes only)", set: unsigned(func(o *Options) *uint64 { return &o.From })},
		{Name: "frames", aliases: []string{"n"}, value: "N", commands: []string{"top"}, summary: "print N frames as text, or with -o json, and end",
			set: count(func(o *Options) *int { return &o.Frames })},
		{Name: "poll", value: "DURATION", commands: []string{"watch", "top"}, summary: "the pause before a watch that was cut off goes on, and between two questions to a node that does not send changes by itself (default 200ms); or how often to ask for a frame (1s)",
			set: positive(func(o *Options) *time.Duration { return &o.Poll })},
		{Name: "vBucket", value: "NAME", commands: []string{"watch", "verify", "transferLeader", "snapshot", "resync"}, summary: "only this vBucket",
			set: text(func(o *Options) *string { return &o.VBucket })},
		{Name: "nonVoting", commands: []string{"addNode"}, summary: "leave it without a vote: it serves reads and costs writers nothing; without this, -addNode gives it one later",
			set: boolean(func(o *Options) *bool { return &o.NonVoting })},
		{Name: "v", commands: []string{"status", "listNodes", "doctor"}, summary: "show more: the Raft timing of each node, and of the cluster, and what their engines hold in memory; what each check of -doctor came to",
			set: boolean(func(o *Options) *bool { return &o.Verbose })},
		{Name: "quiet", aliases: []string{"q"}, commands: append([]string{"bench"}, slow...), summary: "show no progress",
			set: boolean(func(o *Options) *bool { return &o.Quiet })},
		{Name: "yes", aliases: []string{"y"}, commands: []string{"drill"}, summary: "begin without asking", set: boolean(func(o *Options) *bool { return &o.Yes })},
		{Name: "for", value: "DURATION", commands: []string{"drill"}, summary: "how long the fault lasts, up to 1m (default 10s, or longer if the promise needs it)",
			set: positive(func(o *Options) *time.Duration { return &o.Lasts })},
		{Name: "delay", value: "DURATION", commands: []string{"drill"}, summary: "slow-disk: by how much each sync takes longer (default 100ms)",
			set: positive(func(o *Options) *time.Duration { return &o.Delay })},
		{Name: "force", commands: []string{"removeNode", "resync", "promote", "upgrade", "restore"},
			summary: "remove it even if the members that would be left and answer are no majority; rebuild a healthy copy too; promote although changes may be lost; finish an upgrade although slaves are not upgraded; restore the backup of another database, or one that is mixed from several",
			set:     boolean(func(o *Options) *bool { return &o.Force })},
		{Name: "cancel", commands: []string{"resync"}, summary: "withdraw the order instead: the copy stays, and what was loaded of the new one is removed",
			set: boolean(func(o *Options) *bool { return &o.Cancel })},
		{Name: "with", value: "HOST:PORT[,...]", commands: []string{"promote"}, summary: "the other slaves that become masters together with the slave of -a, by their gRPC addresses", set: setWith},
		{Name: "planned", commands: []string{"promote"}, summary: "only if the masters can be sealed and the slaves are up to date; the former masters become slaves at once",
			set: boolean(func(o *Options) *bool { return &o.Planned })},
		{Name: "abandon", commands: []string{"promote"}, summary: "give up a promotion that is not decided: on its slave, or on a master that it has left sealed",
			set: boolean(func(o *Options) *bool { return &o.Abandon })},
	}
}

func securityOptions() []*Option {
	return []*Option{
		{Name: "dir", value: "FOLDER", commands: []string{"certs"}, summary: "folder of the authority and its certificates (default " + defaultDir + ")",
			set: text(func(o *Options) *string { return &o.Dir })},
		{Name: "days", value: "N", commands: []string{"certs", "token"}, summary: "how long it is valid (default: a certificate 365, an authority 3650, a token without end)",
			set: count(func(o *Options) *int { return &o.Days })},
		{Name: "nodeName", value: "NAME", commands: []string{"certs"}, summary: "name that the certificates of nodes carry, tls-node-name (default dkv-node)",
			set: text(func(o *Options) *string { return &o.NodeName })},
		{Name: "loopback", commands: []string{"certs"}, summary: "node: add localhost, 127.0.0.1 and ::1 (default true)",
			set: boolean(func(o *Options) *bool { return &o.Loopback })},
		{Name: "authFile", value: "FILE", commands: []string{"token"}, summary: "auth-file to change or list; it is made if it does not exist",
			set: text(func(o *Options) *string { return &o.AuthFile })},
		{Name: "role", value: "ROLE[,...]", words: []string{"read", "write", "watch", "replication", "admin"}, commands: []string{"token"},
			summary: "rights of a new name: read, write, watch, replication, admin",
			set:     names(func(o *Options) *[]string { return &o.Roles })},
		{Name: "database", value: "NAME[,...]", commands: []string{"token"}, summary: "only for these databases (default all)",
			set: names(func(o *Options) *[]string { return &o.Databases })},
		{Name: "prefix", value: "TEXT", commands: []string{"token"}, summary: "only for keys that begin with TEXT (default all); may be repeated", set: addPrefix},
	}
}

func setAddrs(o *Options, value string) (err error) {
	o.Addrs, err = addresses(value)
	return err
}

// setWith sets the nodes of a promotion, which may be written as URLs.
func setWith(o *Options, value string) (err error) {
	o.With, err = addresses(strings.ReplaceAll(value, "http://", ""))
	return err
}

// addresses parses host:port, separated by commas.
func addresses(value string) ([]string, error) {
	addrs := strings.Split(value, ",")
	for i, addr := range addrs {
		addrs[i] = strings.TrimSpace(addr)
		if addrs[i] == "" {
			return nil, fmt.Errorf("an address is empty: write host:port, such as %s, with a comma between several", DefaultAddr)
		}
		if strings.ContainsAny(addrs[i], " \t\n;") {
			return nil, fmt.Errorf("%q is not host:port: write a comma between several addresses", addr)
		}
		if strings.Contains(addr, "://") {
			return nil, fmt.Errorf("%q is a URL: write host:port, such as %s", addr, DefaultAddr)
		}
		host, port, err := net.SplitHostPort(addrs[i])
		if err != nil || host == "" {
			if end := strings.LastIndexByte(addr, ':'); strings.Count(addr, ":") > 1 && !strings.Contains(addr, "[") {
				return nil, fmt.Errorf("%q is not host:port: an IPv6 address stands in brackets, write [%s]%s", addr, addr[:end], addr[end:])
			}
			return nil, fmt.Errorf("%q is not host:port, such as %s", addr, DefaultAddr)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("the port of %q is not a number from 1 to 65535", addr)
		}
	}
	return addrs, nil
}

func setOutput(o *Options, value string) error {
	switch strings.ToLower(value) {
	case "text":
		o.JSON = false
	case "json":
		o.JSON = true
	default:
		return errors.New("the formats are text and json")
	}
	return nil
}

func setLevel(o *Options, value string) error {
	switch strings.ToLower(value) {
	case "seq", "sequential":
		o.Level = kv.Sequential
	case "lin", "linearizable":
		o.Level = kv.Linearizable
	default:
		return errors.New("the levels are seq and lin")
	}
	return nil
}

// The functions below make the setter of an option from the place of its value.

func text(field func(*Options) *string) func(*Options, string) error {
	return func(o *Options, value string) error {
		if value == "" {
			return errors.New("the value is empty")
		}
		*field(o) = value
		return nil
	}
}

// names adds the parts of a list to those of the lists before it.
func names(field func(*Options) *[]string) func(*Options, string) error {
	return func(o *Options, value string) error {
		parts := strings.Split(value, ",")
		if slices.Contains(parts, "") {
			return errors.New("a name in the list is empty")
		}
		*field(o) = append(*field(o), parts...)
		return nil
	}
}

func addPrefix(o *Options, value string) error {
	if value == "" {
		return errors.New("all keys begin with the empty prefix: leave it out")
	}
	o.Prefixes = append(o.Prefixes, value)
	return nil
}

func boolean(field func(*Options) *bool) func(*Options, string) error {
	return func(o *Options, value string) error {
		b, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("the values are true and false")
		}
		*field(o) = b
		return nil
	}
}

func unsigned(field func(*Options) *uint64) func(*Options, string) error {
	return func(o *Options, value string) error {
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return errors.New("not a whole number of at least 0")
		}
		*field(o) = n
		return nil
	}
}

func positive(field func(*Options) *time.Duration) func(*Options, string) error {
	return func(o *Options, value string) error {
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

var errOutOfRange = errors.New("the duration is out of range: the longest is 2562047h, 292 years")

// digits are the numbers of a duration.
var digits = regexp.MustCompile(`[0-9]+`)

// parseDuration reads a Go duration or a bare number of seconds.
func parseDuration(value string) (time.Duration, error) {
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		if math.IsNaN(seconds) || math.Abs(seconds) > math.MaxInt64/1e9 {
			return 0, errOutOfRange
		}
		return time.Duration(seconds * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		if _, err := time.ParseDuration(digits.ReplaceAllString(value, "1")); err == nil {
			return 0, errOutOfRange
		}
		return 0, errors.New("not a duration such as 500ms, 10s, 2m or a number of seconds")
	}
	return d, nil
}
