package dkv

import (
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

// told returns the report of a node at addr that leads the vBuckets in a term.
func told(addr, dc string, slave bool, parts ...part) *report {
	return &report{node: &node{addr: addr}, identity: addr, address: addr, dc: dc, slave: slave, parts: parts}
}

func serves(name, leader string) part { return part{name: name, serving: true, leader: leader} }

func leads(name string, term uint64) part {
	return part{name: name, serving: true, leads: true, term: term, history: "h"}
}

func names(nodes []*node) (out []string) {
	for _, n := range nodes {
		out = append(out, n.name())
	}
	return out
}

func TestBuild(t *testing.T) {
	reach := func(addr string) *node { return &node{addr: addr} }
	for _, c := range []struct {
		name     string
		reports  []*report
		leaders  []string // by vBucket
		replicas []string // of the first vBucket
		near     int
		masters  []string
	}{
		{"one", []*report{told("a", "", false, leads("x", 0))}, []string{"a"}, []string{"a"}, 0, []string{"a"}},
		{"own DC first", []*report{told("a", "far", false, leads("x", 1)), told("b", "here", false, serves("x", "a")), told("c", "here", true, serves("x", "a"))},
			[]string{"a"}, []string{"b", "c", "a"}, 2, []string{"b", "a"}},
		{"several vBuckets", []*report{told("a", "", false, leads("0", 1), serves("1", "b")), told("b", "", false, serves("0", "a"), leads("1", 1))},
			[]string{"a", "b"}, []string{"a", "b"}, 0, []string{"a", "b"}},
		{"two leaders", []*report{told("a", "", false, leads("x", 3)), told("b", "", false, leads("x", 4))},
			[]string{"b"}, []string{"a", "b"}, 0, []string{"a", "b"}},
		{"a master that a promotion has replaced", []*report{told("a", "here", false, part{name: "x", serving: true, leads: true, term: 9, history: "h"}),
			told("b", "", false, part{name: "x", serving: true, leads: true, term: 1, history: "1-p"}), told("c", "", true, part{name: "x", serving: true, leader: "a", term: 9, history: "h"})},
			[]string{"b"}, []string{"b", "c"}, 0, []string{"b"}},
		{"followers of two eras", []*report{told("b", "", true, part{name: "x", leader: "c:1", term: 9, history: "1-p"}), told("d", "", true, part{name: "x", leader: "e:1", term: 2, history: "2-q"})},
			[]string{"e:1"}, nil, 0, nil},
		{"leader named by followers of a node that answers", []*report{told("a", "", false, serves("x", "")), told("b", "", true, serves("x", "a"))},
			[]string{"a"}, []string{"a", "b"}, 0, []string{"a"}},
		{"leader named by followers of another", []*report{told("b", "", true, serves("x", "c:1"))}, []string{"c:1"}, []string{"b"}, 0, nil},
		{"the newest leaderByFollowers", []*report{told("b", "", true, part{name: "x", leader: "c:1", term: 1}), told("d", "", true, part{name: "x", leader: "e:1", term: 2})},
			[]string{"e:1"}, nil, 0, nil},
		{"followers name an unusable address", []*report{told("b", "", true, serves("x", "0.0.0.0:80"))}, []string{""}, []string{"b"}, 0, nil},
		{"not serving", []*report{told("a", "", false, part{name: "x", leads: true})}, []string{"a"}, nil, 0, []string{"a"}},
		{"a slave of one of several", []*report{told("a", "", true, serves("1", "")), told("b", "", false, leads("0", 1), leads("1", 1))},
			[]string{"b", "b"}, []string{"b"}, 0, []string{"b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 { // whatever the order of the reports
				got := build(c.reports, nil, "here", reach)
				if l := got.leaders(); !slices.Equal(l, c.leaders) {
					t.Errorf("leaders %v", l)
				}
				if r := names(got.vBuckets[0].replicas); !slices.Equal(r, c.replicas) || got.vBuckets[0].near != c.near {
					t.Errorf("replicas %v, %d near", r, got.vBuckets[0].near)
				}
				if m := names(got.masters); !slices.Equal(m, c.masters) {
					t.Errorf("masters %v", m)
				}
				slices.Reverse(c.reports)
			}
		})
	}
	if build([]*report{told("a", "", false)}, nil, "", reach) != nil {
		t.Error("a topology of nothing")
	}
}

// Only a node that serves all vBuckets is asked for all of them.
func TestForReadOfAll(t *testing.T) {
	master := told("a", "", false, leads("0", 1), leads("1", 1))
	all, one := told("b", "here", true, serves("0", "a"), serves("1", "a")), told("c", "here", true, serves("0", "a"), part{name: "1"})
	for _, c := range []struct {
		reports []*report
		want    string
	}{
		{[]*report{master, all, one}, "b"},
		{[]*report{master, one}, "a"},
		{[]*report{one}, ""},
	} {
		n := build(c.reports, nil, "here", nil).forReadOfAll(nil)
		if n == nil && c.want != "" || n != nil && n.addr != c.want {
			t.Errorf("%v, want %q", n, c.want)
		}
	}
}

// A node that is reached under two addresses counts once, under its own.
func TestDistinct(t *testing.T) {
	own, alias := told("a", "", false, leads("x", 1)), told("alias", "", false, leads("x", 1))
	alias.identity, alias.address = own.identity, own.address
	for _, reports := range [][]*report{{own, alias}, {alias, own}} {
		if got := build(reports, nil, "", nil); !slices.Equal(names(got.masters), []string{"a"}) {
			t.Errorf("masters %v", names(got.masters))
		}
	}
	if got := build([]*report{alias}, nil, "", nil); got.leaders()[0] != "alias" {
		t.Error("an alias is better than nothing")
	}
}

func TestTopologyEqual(t *testing.T) {
	a, b := told("a", "", false, leads("x", 1)), told("b", "", false, serves("x", "a"))
	one := build([]*report{a, b}, nil, "", nil)
	if !one.equal(build([]*report{b, a}, nil, "", nil)) {
		t.Error("the order of reports makes a difference")
	}
	a.parts[0].leads, b.parts[0].leads = false, true
	if one.equal(build([]*report{a, b}, nil, "", nil)) {
		t.Error("another leader makes no difference")
	}
}

// Keys are in the vBucket that servers compute: (xxhash64(key) & 0xFFFF) mod N.
func TestOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 64).Draw(t, "vBuckets")
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		top := &topology{vBuckets: make([]vBucket, n)}
		if got, want := top.of(key), int(xxhash.Sum64(key)%65536)%n; got != want {
			t.Fatalf("%d, want %d", got, want)
		}
	})
	// A value that other clients know: xxhash64("a") is d24ec4f1a98c6e5b.
	if got := (&topology{vBuckets: make([]vBucket, 16)}).of([]byte("a")); got != 0xb {
		t.Errorf("vBucket %d", got)
	}
}

func TestCheapest(t *testing.T) {
	a, b, c := &node{addr: "a"}, &node{addr: "b"}, &node{addr: "c"}
	all := []*node{a, b, c}
	pick := func() string { return cheapest(all, 2, nil).name() }
	if pick() != "a" {
		t.Error("the first of equals is to be taken")
	}
	a.observe(1 << 20)
	if pick() != "b" {
		t.Error("the slower one was taken")
	}
	b.calls.Add(1000)
	if pick() != "a" {
		t.Error("the busier one was taken")
	}
	if got := cheapest(all, 2, a).name(); got != "b" {
		t.Error("the one to avoid was taken, or one of another DC:", got)
	}
	a.down.Store(now())
	b.down.Store(now())
	if pick() != "c" {
		t.Error("a dead node was taken")
	}
	c.down.Store(now())
	if pick() != "a" {
		t.Error("where all are dead, one has to do")
	}
	if cheapest([]*node{a}, 0, a) != a || cheapest(nil, 0, nil) != nil {
		t.Error("of one, or none")
	}
}

func TestDialable(t *testing.T) {
	for addr, want := range map[string]bool{
		"host:80": true, "10.0.0.1:80": true, "[::1]:80": true, "0.0.0.0:80": false, "[::]:80": false, ":80": false, "": false, "host": false,
	} {
		if got := dialable(addr); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
}
