package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

const (
	// writersPerNode write keys that are written once; registersPerNode read and
	// write a few keys that all share; expiringPerNode update keys that expire.
	writersPerNode, registersPerNode, expiringPerNode = 2, 3, 1
	// onceKeys is the prefix of the keys that are written once, expiringKeys of those
	// that expire, which is followed by the time of expiry.
	onceKeys, expiringKeys = "once-", "expiring-"
	// pace is the time between two operations of a client, if they are fast.
	pace = 30 * time.Millisecond
	// deadline is that of an operation, in milliseconds: this and up to as much
	// again.
	deadlineMillis = 1000
)

// load is clients of nodes and their results.
type load struct {
	t *testing.T
	c *cluster
	// homes are the nodes whose clients these are. follow has a client turn to the next one
	// after each error, as it must if only some of them are masters.
	homes   atomic.Pointer[[]*node]
	follow  bool
	history *history
	keys    *keys
	stop    context.CancelFunc
	running sync.WaitGroup

	acks atomic.Int64 // acknowledged mutations of any kind
	// gate is held for reading during each operation.
	gate sync.RWMutex

	mu      sync.Mutex
	ledger  map[string]written // acknowledged writes of keys that are written once
	updated map[string]written // acknowledged updates of keys that expire
	refused map[string]bool    // pairs that were not applied, as the errors said
	answers []answer           // that were acknowledged
	errs    map[string]int     // how often a mutation ended so
}

// startLoad runs clients of all masters until stop.
func startLoad(c *cluster, rng *rand.Rand) *load {
	c.t.Helper()
	return startLoadAt(c, rng, c.nodes, false)
}

// startLoadAt runs clients of some nodes until stop.
func startLoadAt(c *cluster, rng *rand.Rand, homes []*node, follow bool) *load {
	c.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &load{t: c.t, c: c, follow: follow, history: newHistory(), keys: newKeys(), stop: stop,
		ledger: make(map[string]written), updated: make(map[string]written), refused: make(map[string]bool), errs: make(map[string]int)}
	l.turnTo(homes)
	c.t.Cleanup(l.end)
	id := 0
	client := func(home int, act func(context.Context, *client)) {
		cl := &client{load: l, id: id, home: home, rng: rand.New(rand.NewPCG(rng.Uint64(), 0))}
		id++
		l.running.Go(func() { cl.run(ctx, act) })
	}
	for n := range homes {
		for range writersPerNode {
			client(n, writeOnce)
		}
		for range registersPerNode {
			client(n, useRegister)
		}
		for range expiringPerNode {
			client(n, new(expiring).use)
		}
	}
	l.await(50)
	return l
}

// turnTo has the clients call other nodes from their next operation on.
func (l *load) turnTo(homes []*node) { l.homes.Store(&homes) }

func (l *load) end() {
	l.stop()
	l.running.Wait()
}

// await waits for n further acknowledgements.
func (l *load) await(n int) {
	l.t.Helper()
	target := l.acks.Load() + int64(n)
	testkit.Eventually(l.t, fmt.Sprintf("%d more writes are acknowledged", n), func() bool { return l.acks.Load() >= target })
}

// acked counts an acknowledged mutation that was called at a time, and whose answer named a
// history.
func (l *load) acked(call int64, history string) {
	a := answer{call: time.Duration(call), end: l.mark(), era: era.Of(history)}
	l.acks.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, a)
}

// quietly calls f while no client has an operation under way.
func (l *load) quietly(f func()) {
	l.gate.Lock()
	defer l.gate.Unlock()
	f()
}

// written is an acknowledged write.
type written struct {
	value string
	index uint64
	at    time.Duration // of its acknowledgement, since the history's start
}

// failed counts the error of a mutation, and reports whether the mutation may have been
// applied. value is the one that it would have set, if there is one.
func (c *client) failed(key, value string, err error) (unknown bool) {
	if c.follow {
		c.home++
	}
	return c.load.failed(key, value, err)
}

func (l *load) failed(key, value string, err error) (unknown bool) {
	st, _ := status.FromError(err)
	reason := "no reason"
	for _, d := range st.Details() {
		if info, is := d.(*errdetails.ErrorInfo); is && info.GetDomain() == kv.ErrorDomain {
			reason = info.GetReason()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs[st.Code().String()+"/"+reason]++
	if reason != kv.ReasonNotApplied {
		return true
	}
	if value != "" {
		l.refused[pair(key, value)] = true
	}
	return false
}

// client is one of many, busy with one operation at a time.
type client struct {
	*load
	id   int
	home int // of homes
	rng  *rand.Rand
	seq  int
}

// run makes operations at the pace until ctx ends. The last one is completed.
func (c *client) run(ctx context.Context, act func(context.Context, *client)) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.gate.RLock()
		op, cancel := context.WithTimeout(context.Background(), time.Duration(deadlineMillis+c.rng.IntN(deadlineMillis))*time.Millisecond)
		act(op, c)
		cancel()
		c.gate.RUnlock()
	}
}

// node returns the client's own node, or another one while there is no
// connection to that; nil for none at all.
func (c *client) node() serverpb.DKVClient {
	homes := *c.homes.Load()
	for i := range homes {
		n := homes[(c.home+i)%len(homes)]
		if n.conn.GetState() == connectivity.Ready {
			return n.kv()
		}
		n.conn.Connect()
	}
	return nil
}

// unique returns a value that no other client writes.
func (c *client) unique() string {
	c.seq++
	return fmt.Sprintf("%d-%d", c.id, c.seq)
}

// writeOnce writes a key of its own.
func writeOnce(ctx context.Context, c *client) {
	node := c.node()
	if node == nil {
		return
	}
	v := c.unique()
	key := onceKeys + v
	call := c.history.now()
	resp, err := node.Put(ctx, &serverpb.PutRequest{Key: []byte(key), Value: []byte(v)})
	if err != nil {
		c.failed(key, v, err)
		return
	}
	c.mu.Lock()
	c.ledger[key] = written{value: v, index: resp.GetIndex(), at: c.mark()}
	c.mu.Unlock()
	c.acked(call, resp.GetHistory())
}

// useRegister does an operation on a key that other clients use too.
func useRegister(ctx context.Context, c *client) {
	node := c.node()
	if node == nil {
		return
	}
	if c.rng.IntN(5) == 0 {
		k := c.keys.counter(c.rng)
		if c.rng.IntN(2) == 0 {
			c.get(ctx, node, k)
		} else {
			c.mutate(ctx, node, k, input{kind: opAdd, key: k.name, delta: 1 + c.rng.Int64N(9)})
		}
		return
	}
	k := c.keys.register(c.rng)
	switch p := c.rng.IntN(10); {
	case p < 5:
		c.get(ctx, node, k)
	case p < 8:
		c.mutate(ctx, node, k, input{kind: opPut, key: k.name, value: c.unique()})
	default:
		c.mutate(ctx, node, k, input{kind: opCAS, key: k.name, old: k.last(), value: c.unique()})
	}
}

func (c *client) get(ctx context.Context, node serverpb.DKVClient, k *key) {
	call := c.history.now()
	v, err := read(ctx, node, k.name, k.counts)
	end := c.history.now()
	if err != nil {
		return // tells nothing
	}
	k.seen(v)
	c.history.add(c.id, input{kind: opGet, key: k.name}, call, output{value: v}, end)
}

func (c *client) mutate(ctx context.Context, node serverpb.DKVClient, k *key, in input) {
	call := c.history.now()
	out, err := apply(ctx, node, in)
	end := c.history.now()
	if err != nil {
		if !c.failed(in.key, in.value, err) {
			return
		}
		out = output{unknown: true}
		c.keys.doubt(k)
	} else {
		c.acked(call, out.history)
		if in.kind == opPut || out.updated {
			k.seen(in.value)
		}
	}
	c.history.add(c.id, in, call, out, end)
}

// apply makes the call of a mutation.
func apply(ctx context.Context, node serverpb.DKVClient, in input) (output, error) {
	key := []byte(in.key)
	switch in.kind {
	case opPut:
		resp, err := node.Put(ctx, &serverpb.PutRequest{Key: key, Value: []byte(in.value)})
		return output{history: resp.GetHistory()}, err
	case opCAS:
		resp, err := node.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: key, OldValue: []byte(in.old), NewValue: []byte(in.value)})
		return output{updated: resp.GetUpdated(), history: resp.GetHistory()}, err
	case opAdd:
		resp, err := node.Increment(ctx, &serverpb.IncrementRequest{Key: key, Delta: in.delta})
		return output{value: strconv.FormatInt(resp.GetValue(), 10), history: resp.GetHistory()}, err
	default:
		return output{}, fmt.Errorf("operation %d is no mutation", in.kind)
	}
}

var errNoCounter = errors.New("the value is no counter")

// read reads a key linearizably. An absent one is empty, a counter decimal.
func read(ctx context.Context, node serverpb.DKVClient, key string, counts bool) (string, error) {
	resp, err := node.Get(ctx, &serverpb.GetRequest{Key: []byte(key), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
	switch {
	case err != nil:
		return "", err
	case !resp.GetFound() || !counts:
		return string(resp.GetValue()), nil
	case len(resp.GetValue()) != 8:
		return "", errNoCounter
	default:
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(resp.GetValue())), 10), nil
	}
}
