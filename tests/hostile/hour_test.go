package hostile

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/tests/hostile/attack"
)

const (
	// moment is how long a window of the brief form lasts.
	moment = 2 * time.Second
	// together is how many attacks run at once, and pace how many actions a second each of
	// them does: unbounded floods, which the battery runs, depend on the machine's speed.
	together, pace = 2, 200
)

// TestMixedLoad has honest clients use three masters and a slave for -hostile.hour, with
// attacks in every other minute. What the honest clients notice then is compared with the
// minutes between, which have the same noise; and nothing may grow. Without the flag it
// runs one moment of each and judges only failures.
func TestMixedLoad(t *testing.T) {
	window := *minute
	if *hour == 0 {
		window = moment
	}
	f := newField(t, attack.Masters)
	slave := f.slave()
	f.reads = append(f.reads, slave)
	f.aim(slave)
	f.target.Pace = pace
	f.grow(*grown)
	attacks := chosen()
	h := behave(f)
	settle(window / 6)
	h.window()
	m := &mixed{t: t, f: f, h: h}
	m.begin()
	m.note("start", nil, "")
	for end := time.Now().Add(*hour); m.quiet == nil || time.Now().Before(end); {
		m.begin()
		settle(window)
		m.quiet = append(m.quiet, m.note("honest", h.window(), ""))
		m.begin()
		var enemies []*attacking
		for range together {
			enemies = append(enemies, begin(t, attacks[m.next%len(attacks)], f.target))
			m.next++
		}
		settle(window)
		felt := h.window()
		m.loud = append(m.loud, m.note("mixed", felt, m.end(enemies, window)))
		settle(window / 12) // until the nodes have cleaned up
		h.window()
	}
	m.begin()
	settle(window)
	m.quiet = append(m.quiet, m.note("honest", h.window(), ""))
	m.judge()
}

// chosen are the attacks on masters, or those that -hostile.attacks names.
func chosen() (out []attack.Attack) {
	for _, a := range attack.All() {
		if slices.Contains(a.Against, attack.Masters) && (*named == "" || among(a, attack.Masters)) {
			out = append(out, a)
		}
	}
	return out
}

// mixed is what has been noticed so far.
type mixed struct {
	t           testing.TB
	f           *field
	h           *honest
	next        int // attack
	quiet, loud []*felt
	settled     [][]vitals // of each node, at the start and behind each minute without attacks
	// before is what the nodes had had of the processors when the window began, and spent what
	// they had in it; others is what processes beside the test's had had.
	before, spent processors
	others        time.Duration
}

// begin begins a window.
func (m *mixed) begin() {
	m.before = m.f.processors()
	m.others = busy() - m.before.ran - processorsOf(os.Getpid()).ran
}

// end stops the attacks of a window, and returns what the table says of them.
func (m *mixed) end(enemies []*attacking, window time.Duration) string {
	now := m.f.processors()
	m.spent = now.since(m.before)
	others := busy() - now.ran - processorsOf(os.Getpid()).ran - m.others
	had := make([]processors, len(enemies))
	for i, e := range enemies {
		had[i] = processorsOf(e.cmd.Process.Pid)
		others -= had[i].ran
	}
	var out []string
	for i, e := range enemies {
		did, due := e.end().Actions, int64(pace*window.Seconds())
		out = append(out, fmt.Sprintf("%s %d/%d %v", e.name, did, due, had[i]))
		// An attack that does less may be held back by the nodes' limits, or by what the nodes and attackers
		// can do. If other processes have the machine, the window says nothing of it.
		if *hour > 0 && did < due/2 && had[i].waited > had[i].ran && others > time.Duration(runtime.NumCPU())*window/3 {
			m.t.Errorf("the attack %s did %d of %d actions: it had %v of the processors and waited %v for them, while processes beside this test had %v, so it has not been run",
				e.name, did, due, had[i].ran, had[i].waited, others)
		}
	}
	return strings.Join(out, ", ")
}

// note adds a line to the table.
func (m *mixed) note(what string, w *felt, attacks string) *felt {
	if attacks == "" {
		m.spent = m.f.processors().since(m.before)
	}
	now := make([]vitals, len(m.f.nodes))
	var nodes []string
	for i, n := range m.f.nodes {
		now[i] = n.vitals()
		nodes = append(nodes, fmt.Sprintf("%d/%d/%d", now[i].rss>>20, now[i].fds, now[i].goroutines))
	}
	m.keep(attacks, now)
	line := fmt.Sprintf("| %s | %s | - | - | - | - | - |", time.Now().UTC().Format("15:04:05"), what)
	if w != nil {
		line = fmt.Sprintf("| %s | %s | %v | %v | %d of %d | %v | %v |", time.Now().UTC().Format("15:04:05"), what,
			p(w.took, .5), p(w.took, .99), w.failed, len(w.took), p(w.newcomers, .99), m.spent)
	}
	line += fmt.Sprintf(" %s | %s |\n", strings.Join(nodes, " "), attacks)
	m.t.Log(line)
	if w != nil && w.failed > 0 {
		m.t.Logf("failed: %v", w.errors)
	}
	if *table != "" {
		out, err := os.OpenFile(*table, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			m.t.Fatal(err)
		}
		defer out.Close()
		if _, err := out.WriteString(line); err != nil {
			m.t.Error(err)
		}
	}
	return w
}

// judge compares the minutes with attacks with those without, and the end with the
// beginning.
func (m *mixed) judge() {
	typical := func(of []*felt, q float64) time.Duration {
		var all []time.Duration
		for _, w := range of {
			all = append(all, p(w.took, q))
		}
		return p(all, .5)
	}
	alone, beside := typical(m.quiet, .99), typical(m.loud, .99)
	m.t.Logf("the median of the minutes: p50 %v, beside attacks %v; p99 %v, beside attacks %v", typical(m.quiet, .5), typical(m.loud, .5), alone, beside)
	if *hour > 0 && beside > 2*alone {
		m.t.Errorf("honest operations take %v beside attacks, and %v without: more than twice as long", beside, alone)
	}
	for _, w := range append(m.quiet, m.loud...) {
		if float64(w.failed) > 1+failures*float64(len(w.took)) {
			m.t.Errorf("honest operations failed: %v", w)
		}
	}
	for i, n := range m.f.nodes {
		was, is := m.remains(i)
		m.t.Logf("%s: %v at the start, %v early, %v at the end", n.name, m.settled[0][i], was, is)
		if is.rss > was.rss+memoryLeft+caches || is.fds > was.fds+filesLeft || is.goroutines > was.goroutines+goroutinesLeft {
			m.t.Errorf("%s has %v in the end, and had %v", n.name, is, was)
		}
	}
}

// caches is what the nodes may keep in memory however long ago they needed it, by their
// settings. The first minutes do not fill that.
const caches = blockCache + inFlight + writeBuffer

// keep keeps what the nodes have behind a minute, unless attacks went on in it.
func (m *mixed) keep(attacks string, now []vitals) {
	if attacks == "" {
		m.settled = append(m.settled, now)
	}
}

// remains is what a node had behind the first minutes, which is what it needs, and has in the
// end: neither while an attack goes on, since it may take what its limits allow then.
func (m *mixed) remains(node int) (was, is vitals) {
	last := len(m.settled) - 1
	return m.settled[min(2, last-1)][node], m.settled[last][node]
}

// TestWhatRemains: what a node has while it is attacked is not what it keeps.
func TestWhatRemains(t *testing.T) {
	m := new(mixed)
	for i, what := range []string{"start", "honest", "mixed", "honest", "mixed", "honest"} {
		attacks := ""
		if what == "mixed" {
			attacks = "an-attack"
		}
		m.keep(attacks, []vitals{{rss: int64(i)}})
	}
	if was, is := m.remains(0); was.rss != 3 || is.rss != 5 {
		t.Errorf("compares the windows %d and %d, want 3 and 5", was.rss, is.rss)
	}
}
