// Package load is the load that a drill brings: writes with request ids, linearizable reads, and
// sequential reads at slaves, at a moderate rate and on keys of its own. It records what each
// client saw.
package load

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/clients/go/dkv"
	"github.com/dkvdb/dkv/internal/ctl/drill/history"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// Writers is how many keys are written at a time, each by one worker, and read by another.
	Writers = 8
	// pause is between two operations of a worker.
	pause = 10 * time.Millisecond
	// expiry removes the keys if the drill cannot. It is longer than any drill.
	expiry = 15 * time.Minute
)

// Load runs the operations of a drill.
type Load struct {
	// Prefix is that of all its keys.
	Prefix  string
	masters *dkv.Client
	slaves  map[string]*dkv.Client // by name
	begun   time.Time
	// registers are the keys that are written and read over and over, of each writer.
	registers [Writers]atomic.Pointer[string]

	mu  sync.Mutex
	ops []history.Op
	// doubtful are the keys of writes whose outcome is not known.
	doubtful []string
	counts   map[history.Kind]uint64
}

// New makes a load over a client of the cluster and clients of single slaves.
func New(masters *dkv.Client, slaves map[string]*dkv.Client) *Load {
	var id [6]byte
	rand.Read(id[:]) // never fails
	return &Load{
		Prefix: "dkv-drill/" + hex.EncodeToString(id[:]) + "/", masters: masters, slaves: slaves, begun: time.Now(),
		counts: make(map[history.Kind]uint64),
	}
}

// Run runs the load until ctx ends. Operations under way are ended by their own limits, not by
// ctx: one that is cut off would be a failure that no client has seen.
func (l *Load) Run(ctx context.Context) {
	var workers sync.WaitGroup
	for i := range Writers {
		l.setRegister(i, 1)
		workers.Go(func() { l.write(ctx, i) })
		workers.Go(func() {
			l.loop(ctx, func() { l.read(ctx, history.Get, "get-"+strconv.Itoa(i), i, l.masters, dkv.Linearizable) })
		})
	}
	for name, slave := range l.slaves {
		workers.Go(func() {
			i := 0
			l.loop(ctx, func() { l.read(ctx, history.Sequential, SlaveSeries(name), i%Writers, slave, dkv.Sequential); i++ })
		})
	}
	workers.Wait()
}

// SlaveSeries names the reads at a slave.
func SlaveSeries(name string) string { return "slave " + name }

// loop repeats an operation until ctx ends.
func (l *Load) loop(ctx context.Context, operation func()) {
	for sleep.For(ctx, pause) {
		operation()
	}
}

func (l *Load) setRegister(i int, generation uint64) {
	key := fmt.Sprintf("%sr/%d/%d", l.Prefix, i, generation)
	l.registers[i].Store(&key)
}

// write writes, in turn, the next version of a register and a key of its own.
func (l *Load) write(ctx context.Context, i int) {
	series := "put-" + strconv.Itoa(i)
	version, generation := uint64(0), uint64(1)
	l.loop(ctx, func() {
		version++
		if version%2 == 0 {
			key := fmt.Sprintf("%ss/%d/%d", l.Prefix, i, version)
			l.put(ctx, series, key, version)
			return
		}
		if l.put(ctx, series, *l.registers[i].Load(), version) { // it might take effect at any time from now on
			generation++
			l.setRegister(i, generation)
		}
	})
}

// put writes a version, and reports whether the outcome is unknown.
func (l *Load) put(ctx context.Context, series, key string, version uint64) (unknown bool) {
	op := history.Op{Kind: history.Put, Series: series, Key: key, Version: version, Begin: l.Now()}
	_, err := l.masters.Put(context.WithoutCancel(ctx), []byte(key), strconv.AppendUint(nil, version, 10), dkv.TTL(expiry))
	op.End, op.Failed = l.Now(), Failure(err)
	l.note(op)
	if unknown = errors.Is(err, dkv.ErrOutcomeUnknown); unknown {
		l.mu.Lock()
		l.doubtful = append(l.doubtful, key)
		l.mu.Unlock()
	}
	return unknown
}

func (l *Load) read(ctx context.Context, kind history.Kind, series string, i int, from *dkv.Client, level dkv.Level) {
	op := history.Op{Kind: kind, Series: series, Key: *l.registers[i].Load(), Begin: l.Now()}
	var err error
	op.Version, err = get(context.WithoutCancel(ctx), from, op.Key, level)
	op.End, op.Failed = l.Now(), Failure(err)
	l.note(op)
}

// get returns the version that a key has; 0 for an absent one.
func get(ctx context.Context, from *dkv.Client, key string, level dkv.Level) (uint64, error) {
	v, err := from.Get(ctx, []byte(key), level)
	if errors.Is(err, dkv.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(v.Bytes), 10, 64)
}

// Now is the time since the load began.
func (l *Load) Now() time.Duration { return time.Since(l.begun) }

func (l *Load) note(op history.Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, op)
	if op.OK() {
		l.counts[op.Kind]++
	}
}

// Served returns how many operations of a kind have succeeded.
func (l *Load) Served(kind history.Kind) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[kind]
}

// Ops returns what the clients have seen so far.
func (l *Load) Ops() []history.Op {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ops
}

// failures names the errors of a client.
var failures = []struct {
	err  error
	kind string
}{
	{dkv.ErrOutcomeUnknown, "outcome unknown"},
	{context.DeadlineExceeded, "timeout"},
	{dkv.ErrUnavailable, "unavailable"},
	{dkv.ErrExhausted, "exhausted"},
	{dkv.ErrPrecondition, "precondition"},
	{dkv.ErrPermissionDenied, "permission denied"},
	{dkv.ErrUnauthenticated, "unauthenticated"},
}

// Failure names the kind of an error; empty for none.
func Failure(err error) string {
	if err == nil {
		return ""
	}
	for _, f := range failures {
		if errors.Is(err, f.err) {
			return f.kind
		}
	}
	return "other"
}
