package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// TestKill kills a node under writes, several times, and checks after each restart
// that every acknowledged write is there.
func TestKill(t *testing.T) {
	for _, engine := range []string{"rocksdb", "badger"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, 0))
			f := newFixture(t, t.TempDir(), "--db-engine", engine)
			l := &ledger{values: make(map[string]string)}
			for round := range 4 {
				writeUntilKilled(f, l, round, 200+rng.IntN(2000))
				f.start()
				l.check(t, f.client())
			}
		})
	}
}

// ledger is what the writers know of their writes.
type ledger struct {
	mu     sync.Mutex
	values map[string]string
	acked  atomic.Int64
}

func (l *ledger) add(key, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values[key] = value
	l.acked.Add(1)
}

// writeUntilKilled writes from several goroutines and kills the node when that many
// writes of this round are acknowledged, while others are in progress.
func writeUntilKilled(f *fixture, l *ledger, round, killAt int) {
	f.t.Helper()
	client := f.client()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	before := l.acked.Load()
	enough := make(chan struct{})
	var once sync.Once
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() {
			for i := 0; ; i++ {
				key, value := fmt.Sprintf("key-%d-%d-%d", round, w, i), fmt.Sprintf("value-%d", i)
				if _, err := client.Put(ctx, &serverpb.PutRequest{Key: []byte(key), Value: []byte(value)}); err != nil {
					return // the kill
				}
				l.add(key, value)
				if l.acked.Load()-before >= int64(killAt) {
					once.Do(func() { close(enough) })
				}
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		f.t.Errorf("only %d writes in a minute", l.acked.Load()-before)
	}
	f.kill()
	cancel()
	writers.Wait()
}

// check reads every acknowledged key back.
func (l *ledger) check(t *testing.T, client serverpb.DKVClient) {
	t.Helper()
	lost := 0
	for key, value := range l.values {
		resp, err := client.Get(context.Background(), &serverpb.GetRequest{Key: []byte(key), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		if err != nil {
			t.Fatal(err)
		}
		if !resp.Found || string(resp.Value) != value {
			lost++
		}
	}
	t.Logf("%d acknowledged, %d lost", len(l.values), lost)
	if lost > 0 {
		t.Errorf("%d acknowledged writes are lost", lost)
	}
}
