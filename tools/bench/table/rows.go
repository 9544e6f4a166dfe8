// Package table holds what is measured: the rows with their loads and targets, and the
// results of each round, which a file keeps so that an interrupted run can be resumed.
package table

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/ctl/bench"
)

// System is what a row is measured on.
type System string

// The systems. All of them run on this machine, on loopback addresses.
const (
	DKV        System = "DKV"             // three nodes, one vBucket
	DKV8       System = "DKV, 8 vBuckets" // three nodes
	Standalone System = "DKV, standalone" // one node
	Etcd       System = "etcd"            // three nodes
	Echo       System = "echo"            // a bare gRPC server that stores nothing
)

// Target is a bound that a row should reach.
type Target struct {
	// Measure says of what.
	Measure Measure
	// Of is the system that DKV is compared with; "" makes Bound an absolute value in the
	// measure's unit.
	Of    System
	Bound float64
}

// Measure is one figure of a row.
type Measure string

// The measures. Of throughput more is better, of all others less.
const (
	Throughput Measure = "throughput"  // operations a second
	CPU        Measure = "server time" // microseconds an operation, of all nodes
	P50        Measure = "p50"         // microseconds
	P99        Measure = "p99"         // microseconds
	IdleCPU    Measure = "idle CPU"    // share of a core, per node
	Failover   Measure = "failover"    // seconds
	Longest    Measure = "longest"     // seconds
)

// MoreIsBetter reports whether a bound of the measure is a lower one.
func (m Measure) MoreIsBetter() bool { return m == Throughput }

// Row is one load, measured on each of its systems in turn.
type Row struct {
	// ID names the row in the file of results and in -rows.
	ID, Title string
	// Load is what dkvctl -bench would run.
	Load bench.Config
	// Leader sends all requests to the leader; otherwise each node gets its share.
	Leader bool
	// Systems are measured in turn; the first is the one that the targets are for.
	Systems []System
	Targets []Target
	// ChartOnly keeps the row out of the tables.
	ChartOnly bool
}

// TargetsOf returns those for one measure.
func (r *Row) TargetsOf(m Measure) []Target {
	var out []Target
	for _, t := range r.Targets {
		if t.Measure == m {
			out = append(out, t)
		}
	}
	return out
}

// Group is rows whose systems run at the same time.
type Group struct {
	Name    string
	Systems []System
	Rows    []Row
}

// KeySize and ValueSize are those of rows that do not say otherwise, in bytes.
const (
	KeySize    = 16
	ValueSize  = 128
	largeValue = 1 << 10
)

// Groups returns everything that is measured under load.
func Groups() []Group {
	return []Group{
		{Name: "cluster", Systems: []System{DKV, Etcd, Echo}, Rows: clusterRows()},
		{Name: "vbuckets", Systems: []System{DKV8, DKV}, Rows: vBucketRows()},
		{Name: "standalone", Systems: []System{Standalone, Echo}, Rows: standaloneRows()},
	}
}

// Workers of the rows: one shows latency, 256 the throughput under load. The others are
// for the chart, besides 32.
const (
	one  = 1
	some = 32
	many = 256
)

func clusterRows() []Row {
	var rows []Row
	add := func(id, title string, leader bool, load bench.Config, targets ...Target) *Row {
		targets = append(targets, Target{P99, Etcd, 1})
		rows = append(rows, Row{ID: id, Title: title, Load: load, Leader: leader, Systems: []System{DKV, Etcd, Echo}, Targets: targets})
		return &rows[len(rows)-1]
	}
	add("put-leader-1", "put, leader, 1 worker", true, put(one), Target{Throughput, Etcd, 1.3}, Target{CPU, Etcd, 0.8})
	add("put-leader-8", "put, leader, 8", true, put(8)).ChartOnly = true
	add("put-leader-32", "put, leader, 32", true, put(some), Target{Throughput, Etcd, 2.5}, Target{CPU, Etcd, 0.4})
	add("put-leader-96", "put, leader, 96", true, put(96)).ChartOnly = true
	add("put-leader-256", "put, leader, 256", true, put(many), Target{Throughput, Etcd, 2.5}, Target{Throughput, Echo, 0.6}, Target{CPU, Etcd, 0.33})
	add("put-any-256", "put, any node, 256", false, put(many), Target{Throughput, Etcd, 2.2})
	add("get-lin-leader-1", "linearizable get, leader, 1", true, get(one, true), Target{Throughput, Echo, 0.85})
	add("get-lin-leader-8", "linearizable get, leader, 8", true, get(8, true)).ChartOnly = true
	add("get-lin-leader-32", "linearizable get, leader, 32", true, get(some, true), Target{Throughput, Echo, 0.85})
	add("get-lin-leader-96", "linearizable get, leader, 96", true, get(96, true)).ChartOnly = true
	add("get-lin-leader-256", "linearizable get, leader, 256", true, get(many, true), Target{Throughput, Echo, 0.85})
	add("get-lin-any-256", "linearizable get, any node, 256", false, get(many, true), Target{Throughput, Etcd, 2})
	add("get-seq-leader-256", "sequential get, leader, 256", true, get(many, false), Target{Throughput, Echo, 0.9})
	add("get-seq-any-256", "sequential get, any node, 256", false, get(many, false), Target{Throughput, Echo, 0.85})
	mixed := load(bench.Mixed, some)
	add("mixed-leader-32", "mixed 50/50, leader, 32", true, mixed, Target{Throughput, Etcd, 2.5})
	// Last, and with keys of its own, so that no get returns large values.
	large := put(many)
	large.ValueSize, large.Prefix = largeValue, "large"
	add("put-1k-leader-256", "put of 1 KiB, leader, 256", true, large, Target{Throughput, Etcd, 2.5})
	return rows
}

func vBucketRows() []Row {
	systems := []System{DKV8, DKV}
	return []Row{
		{ID: "put-any-256-8v", Title: "put, any node, 256", Load: put(many), Systems: systems, Targets: []Target{{Throughput, DKV, 1.1}}},
		{ID: "get-lin-any-256-8v", Title: "linearizable get, any node, 256", Load: get(many, true), Systems: systems},
	}
}

func standaloneRows() []Row {
	systems := []System{Standalone, Echo}
	return []Row{
		{ID: "standalone-put-32", Title: "put, 32", Load: put(some), Leader: true, Systems: systems, Targets: []Target{{Throughput, Echo, 0.7}}},
		{ID: "standalone-put-256", Title: "put, 256", Load: put(many), Leader: true, Systems: systems, Targets: []Target{{Throughput, Echo, 0.8}}},
		{ID: "standalone-get-256", Title: "get, 256", Load: get(many, true), Leader: true, Systems: systems, Targets: []Target{{Throughput, Echo, 0.9}}},
	}
}

func load(op bench.Operation, workers int) bench.Config {
	c := bench.DefaultConfig()
	c.Operation, c.Workers, c.KeySize, c.ValueSize = op, workers, KeySize, ValueSize
	return c
}

func put(workers int) bench.Config { return load(bench.Put, workers) }

func get(workers int, linearizable bool) bench.Config {
	c := load(bench.Get, workers)
	c.Linearizable = linearizable
	return c
}

// IDs of what is measured besides rows.
const (
	IdleID     = "idle"
	FailoverID = "failover"
	// The results of these are texts: the storage engine's version, and how long an
	// fdatasync takes.
	RocksDBRow = "rocksdb"
	SyncRow    = "sync"
)

// IdleTarget and FailoverTargets are those of a cluster without load, and of one whose
// leader is killed.
func IdleTarget() Target { return Target{Measure: IdleCPU, Bound: 0.01} }

// FailoverTargets bound the median and the longest of all.
func FailoverTargets() []Target {
	return []Target{{Measure: Failover, Bound: 1.2}, {Measure: Longest, Bound: 2}}
}

// String says what the target is, such as "2.5 x etcd".
func (t Target) String() string {
	at := "at most"
	if t.Measure.MoreIsBetter() {
		at = "at least"
	}
	if t.Of == "" {
		return fmt.Sprintf("%s %g", at, t.Bound)
	}
	return fmt.Sprintf("%s %g x %s", at, t.Bound, t.Of)
}

// Met reports whether a value reaches the bound; value is a ratio if Of is set.
func (t Target) Met(value float64) bool {
	if t.Measure.MoreIsBetter() {
		return value >= t.Bound
	}
	return value <= t.Bound
}
