package source

import (
	"testing"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm/history"
)

// own is the state of the slave, of no era.
var own = history.Identity{Cluster: "c", History: "h"}

// of is a source of the slave's own history.
func of(address, dc string, change func(*Source)) Source {
	s := Source{Address: address, DC: dc, Status: secondary, Cluster: own.Cluster, History: own.History}
	if change != nil {
		change(&s)
	}
	return s
}

func TestBetter(t *testing.T) {
	leads := func(s *Source) { s.Status = leader }
	slaves := func(n uint32) func(*Source) { return func(s *Source) { s.Slaves = n } }
	for name, c := range map[string]struct {
		present Source
		others  []Source
		failed  string // is passed over
		want    string
		why     string
	}{
		"alone":                        {of("a", "here", nil), nil, "", "", ""},
		"one that is worse":            {of("a", "here", nil), []Source{of("b", "there", nil), of("c", "here", leads)}, "", "", ""},
		"in this data centre":          {of("a", "there", nil), []Source{of("b", "here", leads)}, "", "b", "it is in this data centre"},
		"a follower":                   {of("a", "here", leads), []Source{of("b", "here", nil)}, "", "b", "it is a follower, and the present one leads"},
		"a master":                     {of("a", "here", func(s *Source) { s.slave = true }), []Source{of("b", "here", leads)}, "", "b", "it is a master, and the present one a slave"},
		"named before":                 {of("a", "here", func(s *Source) { s.Order = 1 }), []Source{of("b", "here", nil)}, "", "b", "it is named before the present one"},
		"two slaves fewer":             {of("a", "here", slaves(5)), []Source{of("b", "here", slaves(3))}, "", "b", "it has 3 slaves, and the present one 5"},
		"one slave fewer":              {of("a", "here", slaves(5)), []Source{of("b", "here", slaves(4))}, "", "", ""},
		"the best is passed over":      {of("a", "there", leads), []Source{of("b", "here", nil), of("c", "there", nil)}, "b", "c", "it is a follower, and the present one leads"},
		"the present one waits for it": {of("a", "there", func(s *Source) { leads(s); s.Awaits = true }), []Source{of("b", "here", nil)}, "", "", ""},
		"a later era, although the present one waits for it": {
			of("a", "here", func(s *Source) { s.Awaits = true }),
			[]Source{of("b", "there", func(s *Source) { s.History = era.History(1, own.History) })}, "", "b", LaterEra},
	} {
		chooser := NewChooser("here", "slave:1")
		if c.failed != "" {
			chooser.Failed(c.failed, 0)
		}
		if c.present.Awaits {
			chooser.Declined(c.present.Address) // else nothing of its era would come before it
		}
		got, why := chooser.Better(append([]Source{c.present}, c.others...), c.present.Address, own)
		if got.Address != c.want || why != c.why {
			t.Errorf("%s: %q, %q; want %q, %q", name, got.Address, why, c.want, c.why)
		}
	}
	if got, why := NewChooser("here", "slave:1").Better([]Source{of("b", "here", nil)}, "a", own); why != "" {
		t.Errorf("%s is better than one that is not listed: %s", got.Address, why)
	}
}

func TestOther(t *testing.T) {
	a, b, c := of("a", "here", nil), of("b", "here", func(s *Source) { s.Status = leader }), of("c", "there", nil)
	chooser := NewChooser("here", "slave:1")
	other := func(present Source, others ...Source) string {
		s, there := chooser.Other(append([]Source{present}, others...), present.Address, own)
		if there != (s.Address != "") {
			t.Errorf("%+v, %v", s, there)
		}
		return s.Address
	}
	if got := other(a, b, c); got != "b" {
		t.Errorf("besides the best one: %q", got)
	}
	if got := other(c, a, b); got != "a" {
		t.Errorf("besides the last one: %q", got)
	}
	if got := other(a); got != "" {
		t.Errorf("besides the only one: %q", got)
	}
	chooser.Failed("b", 0)
	if got := other(a, b, c); got != "c" {
		t.Errorf("one was passed over: %q", got)
	}
	a.Awaits = true
	if got := other(a, b, c); got != "" {
		t.Errorf("the owner that waits for the copy is left for %q", got)
	}
}
