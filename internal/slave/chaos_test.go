package slave

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestAnythingGoes has masters die, hang, lag and come back at random, under writes
// and while a client watches the slave: it sees each change once, in order, and what
// it reads never goes backwards.
func TestAnythingGoes(t *testing.T) {
	for seed := range uint64(4) {
		for name, mode := range map[string]func(*Options, *follower.Options){"poll": polling, "stream": streaming} {
			t.Run(fmt.Sprintf("%s/seed=%d", name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { anythingGoes(t, rand.New(rand.NewPCG(seed, 1)), mode) })
			})
		}
	}
}

func anythingGoes(t *testing.T, rng *rand.Rand, mode func(*Options, *follower.Options)) {
	r := newRig(t)
	m := r.master("m1:1")
	m.fill("k", 200, 50)
	nodes := []*node{m, r.twin("m2:1", m), r.twin("m3:1", m)}
	rows := source.NewRows("db")
	rows.Set([]*serverpb.RegionInfo{
		nodes[0].row(leader), nodes[1].row(primary), nodes[2].row(secondary),
	}, true)
	s := r.slave(rows, mode)
	s.has(m)
	w := watchReads(s)
	for range 150 {
		n := nodes[rng.IntN(len(nodes))]
		switch rng.IntN(8) {
		case 0, 1:
			n.kill()
		case 2, 3:
			n.revive()
		case 4:
			goOn := n.hang()
			time.AfterFunc(time.Duration(rng.IntN(5000))*time.Millisecond, goOn)
			time.Sleep(6 * time.Second) // one at a time
		case 5:
			s.restart()
		default:
			if n != m {
				n.sync(m)
			}
		}
		m.fill(fmt.Sprint("k", rng.IntN(3)), 1+rng.IntN(150), rng.IntN(100))
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
	}
	for _, n := range nodes {
		n.revive()
		if n != m {
			n.sync(m)
		}
	}
	s.has(m)
	w.stop()
	if n := strings.Count(r.logs.String(), "msg=\"bootstrapping from a snapshot\""); n != 1 {
		t.Errorf("%d snapshots were needed, although every change was there", n)
	}
	w.check(t, changesOf(t, m, w.from))
}

// readWatch is a client of a slave that reads and watches changes.
type readWatch struct {
	s       *copy
	from    kv.Index
	changes []kv.Change
	errs    []string
	end     func()
}

func watchReads(s *copy) *readWatch {
	_, at := s.Position()
	w := &readWatch{s: s, from: at + 1}
	w.end = testkit.Run(s.rig.t, w.run)
	return w
}

func (w *readWatch) run(ctx context.Context) error {
	last, next := kv.Index(0), w.from
	for sleep.For(ctx, 50*time.Millisecond) {
		_, _, info, err := w.s.Get(ctx, []byte("k"), kv.ReadOptions{})
		if err != nil || info.Index < last {
			w.errs = append(w.errs, fmt.Sprintf("a read at %d behind %d, %v", info.Index, last, err))
		}
		last = info.Index
		c, err := w.s.Replica.Changes(ctx, next, 100, 1<<20)
		if err != nil {
			w.errs = append(w.errs, err.Error())
			continue
		}
		if n := len(c.Changes); n > 0 {
			w.changes = append(w.changes, c.Changes...)
			next = c.Changes[n-1].Index + 1
		}
	}
	return nil
}

func (w *readWatch) stop() {
	time.Sleep(time.Minute)
	w.end()
}

// check compares what was seen with what there was.
func (w *readWatch) check(t *testing.T, want []kv.Change) {
	t.Helper()
	for _, e := range w.errs {
		t.Error(e)
	}
	if len(w.changes) != len(want) {
		t.Fatalf("%d changes were seen of %d", len(w.changes), len(want))
	}
	for i := range want {
		if !sameChange(w.changes[i], want[i]) {
			t.Fatalf("change %d is seen as change %d, or differs", want[i].Index, w.changes[i].Index)
		}
	}
}

// TestFlappingMaster has the preferred master die each second: the other one is
// followed most of the time.
func TestFlappingMaster(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		flapping := r.twin("m2:1", m)
		s := r.slave(source.Fixed("m2:1", "m1:1"), mode)
		s.has(m)
		before := s.Puller.Status().Switches
		for range 120 {
			flapping.kill()
			m.put("a", "2")
			flapping.sync(m)
			time.Sleep(500 * time.Millisecond)
			flapping.revive()
			time.Sleep(500 * time.Millisecond)
		}
		s.has(m)
		if n := s.Puller.Status().Switches - before; n > 14 {
			t.Errorf("the slave has changed masters %d times in two minutes", n)
		}
		if s.Puller.Status().Bootstraps != 1 {
			t.Error("a snapshot was needed")
		}
	})
}
