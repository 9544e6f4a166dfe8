package drill

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/drill/history"
	"github.com/dkvdb/dkv/internal/ctl/drill/load"
)

// Gap is how long a kind of request did not succeed.
type Gap struct {
	// First is the time from the fault to the first success of a request that began after it,
	// Longest that between two successes: of the worst client.
	First   float64 `json:"first_success_seconds"`
	Longest float64 `json:"longest_gap_seconds"`
	// Requests and Failed count those after the fault began.
	Requests uint64 `json:"requests"`
	Failed   uint64 `json:"failed"`
	// Stuck are clients without any success after the fault.
	Stuck int `json:"stuck_clients,omitempty"`
}

// Report is the result of a drill.
type Report struct {
	Drill        string  `json:"drill"`
	Node         string  `json:"node"`
	Fault        string  `json:"fault"`
	FaultSeconds float64 `json:"fault_seconds"`
	// Requests are by kind: put, get (linearizable) and sequential (at slaves).
	Requests map[history.Kind]Gap `json:"requests"`
	// Failures count the failed requests, by kind and error.
	Failures map[string]uint64 `json:"failures"`
	// Acknowledged counts writes; Lost are those of them that could not be read back.
	Acknowledged uint64   `json:"acknowledged_writes"`
	Lost         int      `json:"lost_writes"`
	LostKeys     []string `json:"lost_keys,omitempty"`
	// Reads counts the linearizable reads, and Stale those that were stale.
	Reads      uint64   `json:"linearizable_reads"`
	Stale      int      `json:"stale_reads"`
	StaleReads []string `json:"stale_read_examples,omitempty"`
	// SlaveLag is by how much reads at the slaves lagged, by slave.
	SlaveLag map[string]float64 `json:"slave_lag_seconds,omitempty"`
	// Back is how long after the fault the node had caught up again; negative if it had not.
	Back    float64  `json:"caught_up_after_seconds"`
	Promise string   `json:"promise"`
	Allowed float64  `json:"allowed_seconds"`
	Held    bool     `json:"held"`
	Broken  []string `json:"broken,omitempty"`
	Verdict string   `json:"verdict"`
}

// examples bounds how many lost keys and stale reads a report names.
const examples = 5

// Outcome is what a drill came to.
type Outcome struct {
	// Node is the name of the node with the fault, and Fault what it said of that.
	Node, Fault string
	// Begun and Ended are when the fault began and ended, and Stopped when the load did, since
	// the load began.
	Begun, Ended, Stopped time.Duration
	// Slaves are the names of the slaves that were read.
	Slaves []string
	Lost   []string
	// Back is how long after the fault the node had caught up; negative if it had not.
	Back time.Duration
}

// Judge makes the report of a drill from what its clients saw.
func (s *Scenario) Judge(p Promise, ops []history.Op, o Outcome) *Report {
	r := &Report{
		Drill: s.Name, Node: o.Node, Fault: o.Fault, FaultSeconds: seconds(o.Ended - o.Begun),
		Requests: make(map[history.Kind]Gap), Failures: make(map[string]uint64), SlaveLag: make(map[string]float64),
		Lost: len(o.Lost), LostKeys: o.Lost[:min(examples, len(o.Lost))],
		Back: seconds(o.Back), Promise: p.Text, Allowed: seconds(p.Keys),
	}
	if o.Back < 0 {
		r.Back = -1 // a nanosecond would be rounded to nothing
	}
	r.count(ops, o)
	stale := history.Stale(ops)
	r.Stale = len(stale)
	for _, f := range stale[:min(examples, len(stale))] {
		r.StaleReads = append(r.StaleReads, f.Text)
	}
	for _, name := range o.Slaves {
		r.SlaveLag[name] = seconds(history.Lag(ops, load.SlaveSeries(name), o.Begun))
	}
	r.judge(p)
	if p.Slave > 0 {
		r.judgeSlave(p, history.GapOf(ops, history.Sequential, load.SlaveSeries(o.Node), o.Begun, o.Stopped))
	}
	r.Held = len(r.Broken) == 0
	r.Verdict = "the promise holds"
	if !r.Held {
		r.Verdict = "the promise does not hold: " + strings.Join(r.Broken, "; ")
	}
	return r
}

func (r *Report) broken(format string, args ...any) {
	r.Broken = append(r.Broken, fmt.Sprintf(format, args...))
}

// count fills in the requests.
func (r *Report) count(ops []history.Op, o Outcome) {
	for _, kind := range []history.Kind{history.Put, history.Get, history.Sequential} {
		g := history.GapOf(ops, kind, "", o.Begun, o.Stopped)
		out := Gap{First: seconds(g.First), Longest: seconds(g.Longest), Stuck: g.Stuck}
		for i := range ops {
			op := &ops[i]
			if op.Kind != kind {
				continue
			}
			switch {
			case kind == history.Get && op.OK():
				r.Reads++
			case kind == history.Put && op.OK():
				r.Acknowledged++
			}
			if op.End < o.Begun {
				continue
			}
			out.Requests++
			if !op.OK() {
				out.Failed++
				r.Failures[string(kind)+": "+op.Failed]++
			}
		}
		if out.Requests > 0 {
			r.Requests[kind] = out
		}
	}
}

// judge compares what was seen with what is promised.
func (r *Report) judge(p Promise) {
	if r.Lost > 0 {
		r.broken("%d acknowledged writes are lost", r.Lost)
	}
	if r.Stale > 0 {
		r.broken("%d linearizable reads were stale", r.Stale)
	}
	for _, kind := range []history.Kind{history.Put, history.Get} {
		g, served := r.Requests[kind]
		switch {
		case !served || g.Stuck > 0:
			r.broken("not every client had a %s served after the fault", kind)
		case g.Longest > seconds(p.Keys) || g.First > seconds(p.Keys):
			r.broken("a client had no %s served for %.2f s", kind, max(g.Longest, g.First))
		}
	}
	if r.Back < 0 {
		r.broken("the node had not caught up when the drill ended: see dkvctl -status")
	}
}

// judgeSlave judges the reads at the slave that the drill is about. One that serves none has no
// lag to be seen.
func (r *Report) judgeSlave(p Promise, g history.Gap) {
	if lag := r.SlaveLag[r.Node]; lag > seconds(p.Slave) {
		r.broken("reads at the slave were %.2f s out of date", lag)
	}
	switch {
	case g.Stuck > 0:
		r.broken("the slave served no read after the fault")
	case max(g.First, g.Longest) > p.Slave:
		r.broken("the slave served no read for %.2f s", seconds(max(g.First, g.Longest)))
	}
}

func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Lines are the report for people.
func (r *Report) Lines() []string {
	out := []string{fmt.Sprintf("%s: %s for %.1f s: %s", r.Drill, r.Node, r.FaultSeconds, r.Fault)}
	for _, kind := range []history.Kind{history.Put, history.Get, history.Sequential} {
		if g, any := r.Requests[kind]; any {
			out = append(out, fmt.Sprintf("  %-26s first success after %.2f s, longest gap %.2f s; %d requests, %d failed", titles[kind], g.First, g.Longest, g.Requests, g.Failed))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Failures)) {
		out = append(out, fmt.Sprintf("  %-26s %d %s", "failed", r.Failures[name], name))
	}
	for _, name := range slices.Sorted(maps.Keys(r.SlaveLag)) {
		out = append(out, fmt.Sprintf("  %-26s up to %.2f s, at %s", "reads out of date", r.SlaveLag[name], name))
	}
	out = append(out,
		fmt.Sprintf("  %-26s %d of %d (all read back)", "acknowledged writes lost", r.Lost, r.Acknowledged),
		fmt.Sprintf("  %-26s %d of %d linearizable ones", "reads gone stale", r.Stale, r.Reads))
	for _, text := range slices.Concat(r.LostKeys, r.StaleReads) {
		out = append(out, "    "+text)
	}
	if r.Back >= 0 {
		out = append(out, fmt.Sprintf("  %-26s %.2f s after the fault", "the node had caught up", r.Back))
	}
	return append(out, "  promise: "+r.Promise, "  verdict: "+r.Verdict)
}

var titles = map[history.Kind]string{
	history.Put: "writes", history.Get: "linearizable reads", history.Sequential: "sequential reads at slaves",
}
