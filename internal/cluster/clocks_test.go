package cluster

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

const decade = 10 * 365 * 24 * time.Hour

// offBy has members' wall clocks be off by so much, and keeps what they log.
func offBy(off map[uint64]time.Duration, logs map[uint64]*testkit.Log) func(*rig) {
	return func(r *rig) {
		r.starting = func(n *node) {
			logs[n.id] = new(testkit.Log)
			n.log = logs[n.id].Logger(slog.LevelInfo)
			n.clock = clock.New(clock.Options{
				Member: true,
				Wall:   func() time.Time { return time.Now().Add(off[n.id]) },
				Log:    n.log,
			})
		}
	}
}

// Every member knows whose clock is off, says so once, and the one that it is goes by
// the others' time, within what they allow.
func TestMembersCompareTheirClocks(t *testing.T) {
	logs := make(map[uint64]*testkit.Log)
	r := newRig(t, 3, 1, offBy(map[uint64]time.Duration{3: decade}, logs))
	for id := range uint64(3) {
		n := r.node(id + 1)
		testkit.Run(t, func(ctx context.Context) error { n.compareClocks(ctx); return nil })
	}
	for id := range uint64(3) {
		n := r.node(id + 1)
		testkit.Eventually(t, "it knows all clocks", func() bool { return len(n.Clocks()) == 3 && n.Cluster.clock.Known() })
		for _, m := range n.Clocks() {
			if fault := m.Fault(); m.Off != (m.ID == 3) || m.Off != strings.Contains(fault, "3650 days ahead") || m.Self != (m.ID == n.id) {
				t.Errorf("at %d, member %d is %+v: %q", n.id, m.ID, m, fault)
			}
		}
		if off := time.Until(n.Cluster.clock.Now()); off > clock.DefaultMaxJump || n.id == 3 && off < clock.DefaultMaxJump-time.Second {
			t.Errorf("at %d the time is off by %v", n.id, off)
		}
		want := "the clock of a member is off"
		if n.id == 3 {
			want = "THIS NODE'S CLOCK IS OFF"
		}
		testkit.Eventually(t, "it says so", func() bool { return logs[n.id].Count(want) == 1 })
		if logs[n.id].Has("member=1") || logs[n.id].Has("member=2") {
			t.Errorf("%d says: %s", n.id, logs[n.id])
		}
	}
}

// A node that has taken over a member's address is not asked the time.
func TestTimeIsAskedOfTheMember(t *testing.T) {
	r := newRig(t, 2, 1)
	r.groups[0].set(func() {
		m := r.groups[0].records[2]
		m.Address = r.node(1).server.Addr
		r.groups[0].records[2] = m
	})
	r.node(1).hearClocks(t.Context())
	if r.node(1).Cluster.clock.Known() {
		t.Errorf("clocks %+v", r.node(1).Clocks())
	}
}

// A node whose clock is off does not get in, and nothing is left of the attempt.
func TestAddRefusesAWrongClock(t *testing.T) {
	r := newRig(t, 3, 1)
	for _, off := range []time.Duration{decade, -time.Hour} {
		w := r.joiner(func(o *bootstrap.Options) { o.Wall = func() time.Time { return time.Now().Add(off) } })
		wrong := time.Now().Add(off).UTC().Format("2006-01-02T15")
		expectError(t, r.add(1, w.URL), kv.Precondition, "the clock of the node at "+w.URL, wrong, time.Now().UTC().Format("2006-01-02T15"), "max-clock-jump is 10s")
		r.expect(0)
		w.stop()
	}
	w := r.joiner(func(o *bootstrap.Options) { o.Wall = func() time.Time { return time.Now().Add(5 * time.Second) } })
	if err := r.add(1, w.URL); err != nil {
		t.Error(err)
	}
	// If the clocks of too few members are known, the time is not known.
	late := r.joiner(nil)
	r.stop(2, 3, 4)
	r.node(1).Cluster.clock = clock.New(clock.Options{Member: true})
	expectError(t, r.add(1, late.URL), kv.Unavailable, "the clocks of a majority of the members are not known")
}
