package chaos

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// checkLimit bounds the search for an order.
const checkLimit = 2 * time.Minute

// verdict ends the load, and fails the test if the results of its clients are not
// possible. All nodes must be up.
func (l *load) verdict() {
	l.t.Helper()
	for _, found := range l.judge() {
		l.t.Error(found)
	}
}

// judge ends the load and returns what is wrong with the results of its clients. All
// nodes must be up.
func (l *load) judge() (found []string) {
	l.t.Helper()
	l.end()
	l.readKeys()
	lost := len(l.lost())
	result, info := l.history.check(checkLimit)
	l.t.Logf("%d acknowledged writes, of %d single ones %d lost; longest gap between two %v; %d operations on %d keys: %s; errors %v",
		l.acks.Load(), len(l.ledger), lost, l.longestGap(0).Round(time.Millisecond), len(l.history.ops), len(l.keys.used()), result, l.errs)
	if lost > 0 {
		found = append(found, fmt.Sprintf("%d acknowledged writes are lost", lost))
	}
	if result != porcupine.Ok {
		found = append(found, fmt.Sprintf("linearizability: %s", result))
	}
	if result == porcupine.Illegal {
		path := filepath.Join(l.t.ArtifactDir(), "history.html")
		if err := porcupine.VisualizePath(register(), info, path); err != nil {
			l.t.Error(err)
		}
		l.t.Logf("the history: %s", path)
	}
	found = append(found, l.c.checkReplicas()...)
	for _, n := range l.c.nodes {
		found = append(found, l.checkChanges(n)...)
	}
	for _, n := range l.c.nodes {
		paths, err := n.readsByPath()
		if err != nil {
			l.t.Errorf("node %d: %v", n.number, err)
		}
		l.t.Logf("node %d answered linearizable reads: %v", n.number, paths)
	}
	return found
}

// readKeys adds a last read of each key to the history, so that every write is checked.
func (l *load) readKeys() {
	l.t.Helper()
	for i, k := range l.keys.used() {
		node := l.c.nodes[i%len(l.c.nodes)].kv()
		testkit.Eventually(l.t, "key "+k.name+" is read", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			call := l.history.now()
			v, err := read(ctx, node, k.name, k.counts)
			if err != nil {
				return false
			}
			l.history.add(i, input{kind: opGet, key: k.name}, call, output{value: v}, l.history.now())
			return true
		})
	}
}

// lost reads all acknowledged writes of keys that are written once, from each node in
// turn, and returns those that are missing.
func (l *load) lost() (lost []written) {
	l.t.Helper()
	all := slices.Collect(maps.Keys(l.ledger))
	for i, chunk := range slices.Collect(slices.Chunk(all, 200)) {
		req := &serverpb.MultiGetRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}
		for _, k := range chunk {
			req.Keys = append(req.Keys, []byte(k))
		}
		var resp *serverpb.MultiGetResponse
		node := l.c.nodes[i%len(l.c.nodes)]
		node.repeat("what was written is read back", func(ctx context.Context) (err error) {
			resp, err = node.kv().MultiGet(ctx, req, grpc.WaitForReady(true))
			return err
		})
		got := make(map[string]string)
		for _, p := range resp.GetKeyValues() {
			got[string(p.GetKey())] = string(p.GetValue())
		}
		for _, k := range chunk {
			if w := l.ledger[k]; got[k] != w.value {
				l.t.Logf("lost: %s = %s of index %d, found %q", k, w.value, w.index, got[k])
				lost = append(lost, w)
			}
		}
	}
	return lost
}

// longestGap returns the longest time without an acknowledged write of any client
// from a moment of the history on.
func (l *load) longestGap(from time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var at []time.Duration
	for _, a := range l.answers {
		at = append(at, a.end)
	}
	slices.Sort(at)
	var longest time.Duration
	for i := 1; i < len(at); i++ {
		if at[i] >= from {
			longest = max(longest, at[i]-at[i-1])
		}
	}
	return longest
}

// mark returns the present time, for longestGap.
func (l *load) mark() time.Duration { return time.Duration(l.history.now()) }
