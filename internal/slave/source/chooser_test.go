package source

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm/history"
)

const (
	leader    = serverpb.RegionStatus_LEADER
	primary   = serverpb.RegionStatus_PRIMARY_FOLLOWER
	secondary = serverpb.RegionStatus_SECONDARY_FOLLOWER
)

func addresses(sources []Source) string {
	var out []string
	for _, s := range sources {
		out = append(out, s.Address)
	}
	return strings.Join(out, " ")
}

func TestOrder(t *testing.T) {
	c := NewChooser("here", "slave:1")
	for name, tc := range map[string]struct {
		history string // of cluster "c"
		sources []Source
		want    string
	}{
		"as the contract says": {"", []Source{
			{Address: "d", DC: "there", Status: leader},
			{Address: "b", DC: "here", Status: leader},
			{Address: "c", DC: "there", Status: primary},
			{Address: "a", DC: "here", Status: secondary},
		}, "a b c d"},
		"the fewest slaves of equals": {"", []Source{
			{Address: "c", DC: "here", Status: secondary, Slaves: 9},
			{Address: "a", DC: "here", Status: secondary, Slaves: 2},
			{Address: "b", DC: "here", Status: primary, Slaves: 3},
			{Address: "d", DC: "here", Status: leader},
		}, "a b c d"},
		"an operator's order": {"", Fixed("z:1", "y:1", "x:1").Candidates(""), "z:1 y:1 x:1"},
		"another history last": {"h1", []Source{
			{Address: "c", DC: "here", Status: secondary, Cluster: "c", History: "h2"},
			{Address: "d", DC: "there", Status: secondary, Cluster: "another", History: "h1"},
			{Address: "a", DC: "here", Status: leader, Cluster: "c", History: "h1"},
			{Address: "b", DC: "there", Status: leader},
		}, "a b c d"},
		"any history, if there is none": {"", []Source{
			{Address: "b", DC: "there", Status: secondary},
			{Address: "a", DC: "here", Status: secondary, History: "h2"},
		}, "a b"},
		"the leader's, if there is none": {"", []Source{
			{Address: "b", DC: "here", Status: secondary, Cluster: "another", History: "h1"},
			{Address: "a", DC: "there", Status: leader, Cluster: "c", History: "h2"},
		}, "a b"},
	} {
		if got := addresses(c.Order(tc.sources, history.Identity{Cluster: "c", History: tc.history})); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// Slaves spread over masters that are equal, each always in the same way.
func TestLotsSpreadSlaves(t *testing.T) {
	var sources []Source
	for i := range 3 {
		sources = append(sources, Source{Address: fmt.Sprintf("m%d:1", i), DC: "here", Status: secondary})
	}
	first := make(map[string]int)
	for i := range 300 {
		c := NewChooser("here", fmt.Sprintf("slave%d:1", i))
		got := c.Order(sources, history.Identity{})[0].Address
		if again := c.Order(sources, history.Identity{})[0].Address; again != got {
			t.Fatalf("%s, then %s", got, again)
		}
		first[got]++
	}
	for _, s := range sources {
		if first[s.Address] < 60 {
			t.Errorf("%d of 300 slaves at %s: %v", first[s.Address], s.Address, first)
		}
	}
}

func TestExclusion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewChooser("here", "slave:1")
		length := func() time.Duration {
			begun := time.Now()
			for c.PassedOver("m") {
				time.Sleep(10 * time.Millisecond)
			}
			return time.Since(begun)
		}
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			c.Failed("m", 0)
			if got := length(); got != want*time.Second {
				t.Errorf("passed over for %v, want %v", got, want*time.Second)
			}
		}
		c.Failed("m", time.Minute) // it has served for long
		if got := length(); got != time.Second {
			t.Errorf("after it was proven: %v", got)
		}
		c.Failed("m", 0)
		c.Forgive()
		if c.PassedOver("m") {
			t.Error("it was not forgiven")
		}
		c.Retain(nil)
		if len(c.excluded) != 0 {
			t.Error("what is gone is remembered")
		}
	})
}

func TestRows(t *testing.T) {
	rows := NewRows("db")
	changed := rows.Changed()
	if got := rows.Candidates("v1"); len(got) != 0 {
		t.Errorf("%v before there were any", got)
	}
	other := row("other:1", "dc1", leader, 0)
	other.Database = "another"
	elsewhere := row("elsewhere:1", "dc1", leader, 0)
	elsewhere.VBucket = "v2"
	nowhere := row("", "dc1", leader, 0)
	rows.Set([]*serverpb.RegionInfo{
		row("a:1", "dc1", leader, 1), row("b:1", "dc2", primary, 2), row("c:1", "dc1", secondary, 3),
		row("d:1", "dc1", serverpb.RegionStatus_INACTIVE, 0), row("e:1", "dc1", serverpb.RegionStatus_ACTIVE_SLAVE, 0),
		other, elsewhere, nowhere,
	}, true)
	select {
	case <-changed:
	default:
		t.Error("the signal was not raised")
	}
	got := rows.Candidates("default")
	if addresses(got) != "a:1 b:1 c:1" || Leader(got, history.Identity{}) != "a:1" || !rows.Live() || got[1].DC != "dc2" || got[2].Slaves != 3 {
		t.Errorf("%+v", got)
	}
	if got := addresses(rows.Candidates("v2")); got != "elsewhere:1" {
		t.Error(got)
	}
	changed = rows.Changed()
	rows.Set([]*serverpb.RegionInfo{
		row("a:1", "dc1", leader, 1), row("b:1", "dc2", primary, 2), row("c:1", "dc1", secondary, 3),
		row("d:1", "dc1", serverpb.RegionStatus_INACTIVE, 7), elsewhere,
	}, true)
	select {
	case <-changed:
		t.Error("news of nodes that are no masters here")
	default:
	}
	rows.Set([]*serverpb.RegionInfo{elsewhere}, false)
	if got := rows.Candidates("default"); addresses(got) != "a:1 b:1 c:1" || rows.Live() {
		t.Errorf("%v", got)
	}
	select {
	case <-changed:
	default:
		t.Error("the signal was not raised when they are current no more")
	}
}

func TestLeaderOf(t *testing.T) {
	own, restored := history.Identity{Cluster: "c", History: "h"}, history.Identity{Cluster: "c", History: "h2"}
	node := func(address string, status serverpb.RegionStatus, id history.Identity) Source {
		return Source{Address: address, Status: status, Cluster: id.Cluster, History: id.History}
	}
	stray := node("stray", leader, history.Identity{Cluster: "other", History: "h"})
	for name, tc := range map[string]struct {
		id      history.Identity
		sources []Source
		want    string
	}{
		"none":                              {own, nil, ""},
		"the leader":                        {own, []Source{node("b", secondary, own), node("a", leader, own)}, "a"},
		"another cluster's alone":           {own, []Source{node("b", secondary, own), stray}, ""},
		"another cluster's beside":          {own, []Source{stray, node("a", leader, own)}, "a"},
		"another history's":                 {own, []Source{node("a", leader, restored)}, ""},
		"unknown":                           {own, []Source{node("a", leader, history.Identity{})}, ""},
		"without a state":                   {history.Identity{}, []Source{node("b", secondary, own), node("a", leader, own)}, "a"},
		"without a state, several clusters": {history.Identity{}, []Source{node("b", secondary, own), stray}, ""},
	} {
		if got := Leader(tc.sources, tc.id); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestFixed(t *testing.T) {
	if got := addresses(Fixed().Candidates("any")); got != "" {
		t.Errorf("no address: %s", got)
	}
	if got := addresses(Fixed("a:1", "b:2").Candidates("any")); got != "a:1 b:2" {
		t.Errorf("two addresses: %s", got)
	}
}
