package hostile

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/tests/hostile/attack"
)

// What an attack may cause. The bounds leave room for a busy machine, on which the
// attacker competes with the node for the processor; they are far below what each of
// these attacks did to a node without limits.
const (
	// slowest is what the 99th percentile of honest operations may take in any case, and
	// slower the factor by which it may grow.
	slowest, slower = 3 * time.Second, 10
	// failures is the fraction of honest operations that may fail, and newcomersServed the
	// fraction of new clients that must be served.
	failures, newcomersServed = 0.01, 0.7
	// room is what a node may take beyond its settings and what it took before: the
	// garbage collector lets the heap grow before it runs, and messages are counted only
	// once they are made.
	room = 768 << 20
	// What may be left once the node has had time to clean up.
	memoryLeft, filesLeft, goroutinesLeft = 200 << 20, 60, 150
	recovery                              = time.Minute
	// attempts is how often an attack is made that seems to slow the node down.
	attempts = 4
	// logPerSecond is what nodes may log, in bytes: a line for each administrative call,
	// and little else.
	logPerSecond = 512 << 10
)

// brief are the most telling attacks, by target.
var brief = map[attack.Kind][]string{
	attack.RocksDB: {
		"idle-connections", "rapid-reset", "many-empty-puts", "unread-small-window", "stalled-puts", "far-indexes",
		"falling-acknowledgements", "stalled-iterates", "header-only-calls", "forwarded-unread", "http-slow-bodies",
	},
	attack.Registry: {"many-rows-of-a-vbucket"},
}

// TestBattery runs attacks against each kind of target that they fit. Without
// -hostile.all those are a few, or the ones of -hostile.attacks, each for a moment.
func TestBattery(t *testing.T) {
	for _, kind := range []attack.Kind{attack.RocksDB, attack.Badger, attack.Masters, attack.Slave, attack.Registry} {
		var attacks []attack.Attack
		for _, a := range attack.All() {
			if among(a, kind) {
				attacks = append(attacks, a)
			}
		}
		if len(attacks) > 0 {
			t.Run(strings.ReplaceAll(string(kind), " ", "-"), func(t *testing.T) { run(t, kind, attacks) })
		}
	}
}

// among reports whether an attack on a kind of target is to be made: -hostile.attacks names
// it, or else -hostile.all asks for all that fit, or it is one of the brief ones.
func among(a attack.Attack, kind attack.Kind) bool {
	switch fits := slices.Contains(a.Against, kind); {
	case *named != "":
		return fits && slices.Contains(strings.Split(*named, ","), a.Name)
	case *all:
		return fits
	}
	return slices.Contains(brief[kind], a.Name)
}

// run runs attacks against one target, one after the other.
func run(t *testing.T, kind attack.Kind, attacks []attack.Attack) {
	quiet, long := 700*time.Millisecond, 1500*time.Millisecond
	if *all {
		quiet, long = 2*time.Second, *lasting
	}
	f := newField(t, kind)
	h := behave(f)
	settle(quiet)
	for _, a := range attacks {
		t.Run(a.Name, func(t *testing.T) {
			f.t = t
			was := f.vitals()
			// A busy machine is slow at times, with and without an attack. Only an attack
			// that slows it down each time has done so.
			for attempt := range attempts {
				o := &outcome{attack: a.Name, kind: kind}
				o.suffer(t, f, h, a, was, quiet, long)
				if len(o.slow) > 0 && len(o.wrong) == 0 && attempt < attempts-1 {
					t.Logf("attempt %d: %s", attempt+1, strings.Join(o.slow, "; "))
					continue
				}
				o.report(t)
				break
			}
		})
	}
	f.t = t
	for _, n := range f.nodes {
		raw, err := os.ReadFile(n.log)
		if err != nil || bytes.Contains(raw, []byte("panic")) {
			t.Errorf("%s's log has a panic, or none at all: %v", n.name, err)
		}
	}
}

// settle lets a window of measurement pass.
func settle(d time.Duration) { <-time.After(d) }

// outcome is what an attack has done to its target.
type outcome struct {
	attack                string
	kind                  attack.Kind
	before, during, after *felt
	rss                   [3]int64 // of the largest node: before, at the most, afterwards
	recovered             time.Duration
	answers               string
	// wrong is what no node may do, slow is what other load on the machine may cause as well.
	wrong, slow []string
}

func (o *outcome) judge(ok bool, format string, args ...any) {
	if !ok {
		o.wrong = append(o.wrong, fmt.Sprintf(format, args...))
	}
}

func (o *outcome) judgeTime(ok bool, format string, args ...any) {
	if !ok {
		o.slow = append(o.slow, fmt.Sprintf(format, args...))
	}
}

// suffer measures before, during and after an attack on nodes that had these vitals.
func (o *outcome) suffer(t *testing.T, f *field, h *honest, a attack.Attack, was map[*node]vitals, quiet, long time.Duration) {
	for _, v := range was {
		o.rss[0] = max(o.rss[0], v.rss)
	}
	h.window()
	settle(quiet)
	o.before = h.window()
	logged, most := f.logged(), sampled(t, f.nodes)
	enemy := begin(t, a, f.target)
	settle(long)
	o.during = h.window()
	o.answers = enemy.end().Answers
	logs := float64(f.logged()-logged) / long.Seconds()
	o.judge(!strings.Contains(o.answers, attack.Bug), "there are answers that no call may get: %s", o.answers)
	begun := time.Now()
	var left string
	if !testkit.Soon(func() bool { left = o.remains(f, was); return left == "" }) {
		o.judge(false, "after %v there is left: %s", recovery, left)
	}
	o.recovered = time.Since(begun)
	o.rss[1] = most()
	o.judgeDuring(logs)
	h.window()
	settle(quiet)
	o.after = h.window()
	o.judge(o.after.lost == 0, "honest clients have lost keys: %v", o.after)
	o.judgeTime(o.after.failed == 0 && p(o.after.took, .99) <= max(slowest, slower*p(o.before.took, .99)), "honest clients after it: %v", o.after)
}

// judgeDuring holds what was noticed while the attack went on against the bounds.
func (o *outcome) judgeDuring(logged float64) {
	w := o.during
	o.judge(w.lost == 0, "honest clients have lost keys: %v", w)
	o.judgeTime(len(w.took) > 0 && float64(w.failed) <= 1+failures*float64(len(w.took)), "%d of %d operations failed: %v", w.failed, len(w.took), w.errors)
	o.judgeTime(p(w.took, .99) <= max(slowest, slower*p(o.before.took, .99)), "operations took %v, before it %v", p(w.took, .99), p(o.before.took, .99))
	o.judgeTime(p(w.newcomers, newcomersServed) < honestTimeout, "newcomers are not served: %v", w)
	o.judge(o.rss[1] <= o.rss[0]+2*inFlight+room, "memory rose from %d to %d MiB", o.rss[0]>>20, o.rss[1]>>20)
	o.judge(logged <= logPerSecond, "%.0f bytes a second were logged", logged)
}

// remains says what a node still has of an attack; empty if that is nothing.
func (o *outcome) remains(f *field, was map[*node]vitals) string {
	var left []string
	o.rss[2] = 0
	for _, n := range f.nodes {
		before := was[n]
		now := vitals{rss: n.resident(), fds: n.files()}
		o.rss[2] = max(o.rss[2], now.rss)
		clean := now.rss <= before.rss+memoryLeft && now.fds <= before.fds+filesLeft
		if clean { // the kernel is asked first: a node that answers all the time is not left alone to clean up
			now.goroutines = n.goroutines()
			clean = now.goroutines >= 0 && now.goroutines <= before.goroutines+goroutinesLeft
		}
		if !clean {
			left = append(left, fmt.Sprintf("%s has %v, and had %v", n.name, now, before))
		}
	}
	return strings.Join(left, "; ")
}

// report logs the outcome, adds it to the table, and fails the test if something is
// wrong.
func (o *outcome) report(t *testing.T) {
	if o.after == nil {
		return // it was not completed
	}
	verdict := "ok"
	if all := slices.Concat(o.wrong, o.slow); len(all) > 0 {
		verdict = strings.Join(all, "; ")
		t.Error(verdict)
	}
	line := fmt.Sprintf("| %s | %s | %v / %v / %v | %d / %d / %d | %v | %d | %s |\n", o.attack, o.kind,
		p(o.before.took, .99), p(o.during.took, .99), p(o.after.took, .99), o.rss[0]>>20, o.rss[1]>>20, o.rss[2]>>20,
		o.recovered.Round(100*time.Millisecond), o.during.failed, verdict)
	t.Logf("%sbefore: %v\nduring: %v\nafter: %v\nattacker: %s", line, o.before, o.during, o.after, o.answers)
	if *table == "" {
		return
	}
	out, err := os.OpenFile(*table, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.WriteString(line); err != nil {
		t.Error(err)
	}
}
