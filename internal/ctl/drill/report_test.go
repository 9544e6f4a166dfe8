package drill

import (
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/drill/history"
	"github.com/dkvdb/dkv/internal/timing"
)

const ms = time.Millisecond

func op(kind history.Kind, version uint64, begin, end time.Duration) history.Op {
	return history.Op{Kind: kind, Series: string(kind), Key: "k", Version: version, Begin: begin * ms, End: end * ms}
}

// served is a load that is not disturbed: a write and a read of it, again and again.
func served(from, to time.Duration) (ops []history.Op) {
	for at := from; at < to; at += 100 {
		version := uint64(at/100) + 1
		ops = append(ops, op(history.Put, version, at, at+10), op(history.Get, version, at+20, at+30), op(history.Sequential, version, at+20, at+40))
	}
	return ops
}

func judged(ops []history.Op, change func(*Outcome)) *Report {
	o := Outcome{Node: "n1", Fault: "a fault", Begun: 1000 * ms, Ended: 3000 * ms, Stopped: 9000 * ms, Slaves: []string{"sequential"}}
	if change != nil {
		change(&o)
	}
	s := ScenarioOf("leader-stop")
	return s.Judge(s.Promise(Terms{Timing: timing.LAN}), ops, o)
}

func TestVerdict(t *testing.T) {
	whole := served(0, 9000)
	gap := append(served(0, 1000), served(3000, 9000)...)
	never := op(history.Put, 1, 0, 9000)
	never.Series, never.Key, never.Failed = "put-1", "never", "unavailable"
	stale := append(served(0, 9000), op(history.Get, 1, 8000, 8999))
	for _, c := range []struct {
		name   string
		report *Report
		says   string // empty: it holds
	}{
		{"nothing happens", judged(whole, nil), ""},
		{"two seconds without a leader", judged(gap, nil), ""},
		{"six seconds without a leader", judged(append(served(0, 1000), served(7000, 9000)...), nil), "had no put served for 6.10 s"},
		{"no success any more", judged(served(0, 1000), nil), "not every client had a put served after the fault"},
		{"a client that never succeeds", judged(append(served(0, 9000), never), nil), "not every client had a put served after the fault"},
		{"a stale read", judged(stale, nil), "1 linearizable reads were stale"},
		{"a lost write", judged(whole, func(o *Outcome) { o.Lost = []string{"k"} }), "1 acknowledged writes are lost"},
		{"the node stays behind", judged(whole, func(o *Outcome) { o.Back = -1 }), "had not caught up"},
	} {
		if c.report.Held != (c.says == "") || !strings.Contains(c.report.Verdict, c.says) {
			t.Errorf("%s: %t, %s; want %q", c.name, c.report.Held, c.report.Verdict, c.says)
		}
	}
	if r := judged(whole, func(o *Outcome) { o.Back = -1 }); r.Back >= 0 || strings.Contains(strings.Join(r.Lines(), "\n"), "the node had caught up") {
		t.Errorf("a node that stays behind had caught up after %f s", r.Back)
	}
	r := judged(gap, nil)
	if g := r.Requests[history.Put]; g.First != 2.01 || g.Longest != 2.1 {
		t.Errorf("%+v", g)
	}
	text := strings.Join(r.Lines(), "\n")
	for _, want := range []string{"first success after 2.01 s, longest gap 2.10 s", "0 of 70 (all read back)", "0 of 70 linearizable ones", "within 5.4s", "verdict: the promise holds"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestSlavesAreJudgedByTheirLag in the drill that is about one.
func TestSlavesAreJudgedByTheirLag(t *testing.T) {
	s := ScenarioOf("slave-switch")
	o := Outcome{Node: "s1", Begun: 1000 * ms, Ended: 3000 * ms, Stopped: 9000 * ms, Slaves: []string{"s1"}}
	at := func(ops []history.Op, reads func(*history.Op) bool) (out []history.Op) {
		for _, o := range ops {
			if o.Kind != history.Sequential || reads(&o) {
				out = append(out, o)
			}
		}
		return out
	}
	all := func(o *history.Op) bool { o.Series = "slave s1"; return true }
	whole := at(served(0, 9000), all)
	late := op(history.Sequential, 1, 5000, 5001)
	late.Series = "slave s1"
	for _, c := range []struct {
		name string
		ops  []history.Op
		says string // empty: it holds
	}{
		{"it serves all", whole, ""},
		{"a late read", append(whole, late), "out of date"},
		{"no read", at(served(0, 9000), func(*history.Op) bool { return false }), "the slave served no read after the fault"},
		{"all reads fail", at(served(0, 9000), func(o *history.Op) bool {
			if all(o); o.Begin >= 1000*ms {
				o.Failed = "unavailable"
			}
			return true
		}), "the slave served no read after the fault"},
		{"reads fail for long", at(served(0, 9000), func(o *history.Op) bool {
			return all(o) && (o.Begin < 1000*ms || o.Begin > 5000*ms)
		}), "the slave served no read for 4.1"},
	} {
		r := s.Judge(s.Promise(Terms{Timing: timing.LAN}), c.ops, o)
		if r.Held != (c.says == "") || !strings.Contains(r.Verdict, c.says) {
			t.Errorf("%s: %t, %s; want %q", c.name, r.Held, r.Verdict, c.says)
		}
	}
}

// TestEachScenarioHasAPromise that names its limits.
func TestEachScenarioHasAPromise(t *testing.T) {
	for _, s := range Scenarios() {
		p := s.Promise(Terms{Timing: timing.WAN, Delay: 50 * ms, Limit: 2 * time.Second})
		if p.Keys <= 0 || !strings.Contains(p.Text, p.Keys.String()) && !strings.Contains(p.Text, "5s") || s.text == "" {
			t.Errorf("%s: %+v", s.Name, p)
		}
	}
}

// TestRegistryThatMastersNeed: with a short lease of the registry, its election shows in the answers
// of the masters.
func TestRegistryThatMastersNeed(t *testing.T) {
	s, e := ScenarioOf("registry-stop"), timing.LAN.ElectionTime()
	for lease, want := range map[time.Duration]time.Duration{
		0:                 e,
		1666 * ms:         4*e + timing.LAN.Lease + clients - 1666*ms/4,
		8333 * ms:         4*e + timing.LAN.Lease + clients - 8333*ms/4,
		100 * time.Second: e,
	} {
		p := s.Promise(Terms{Timing: timing.LAN, Registry: lease})
		if p.Keys != want || strings.Contains(p.Text, "auto-promote-after") != (want > e) {
			t.Errorf("with a lease of %s: %+v, want %s", lease, p, want)
		}
	}
}
