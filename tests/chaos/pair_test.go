package chaos

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/testkit"
)

var pairRounds = flag.Int("chaos.pair", 3, "rounds of the test of a pair that promotes itself")

// twins are two nodes, of which one is the master, and three of the registry.
type twins struct {
	*cluster
	t *testing.T
}

// newTwins starts a pair and its registry on networks of their own.
func newTwins(t *testing.T) *twins {
	t.Helper()
	clients, places, err := networks(5)
	if err != nil {
		testkit.SkipFault(t, "partition", err)
	}
	c := makeCluster(t, clients, places[:2], nodeIP)
	for i := range 3 {
		c.registry = append(c.registry, c.node(places[2+i], nodeIP(2+i), "--role", "discovery"))
	}
	c.cluster(c.registry)
	keys := []string{"--auto-promote-after", "3s", "--repl-ack", "sync", "--repl-ack-fallback", "async", "--auto-rejoin"}
	c.nodes[0].role = append([]string{"--role", "none"}, keys...)
	c.nodes[1].role = append([]string{"--role", "slave", "--repl-master-addr", c.nodes[0].addr, "--repl-mode", "stream"}, keys...)
	c.start(c.registry...)
	c.start(c.nodes...)
	p := &twins{cluster: c, t: t}
	p.master()
	return p
}

// record returns the pair's record, of any node of the registry that answers; nil for none.
func (p *twins) record() (*peerpb.Record, bool) {
	for _, r := range p.registry {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		res, err := peerpb.NewWitnessClient(r.conn).GetRecord(ctx, &peerpb.GetRecordRequest{Database: "default"}, grpc.WaitForReady(true))
		cancel()
		if err == nil {
			return res.GetRecord(), res.GetGrantedMillis() > 0
		}
	}
	return nil, false
}

// master waits until one node is the master and the other one stands by in the record, and
// returns the master.
func (p *twins) master() (master *node) {
	p.t.Helper()
	testkit.Eventually(p.t, "one node is the master, and the other one stands by in the record", func() bool {
		r, granted := p.record()
		if !granted || len(r.GetStandbys()) != 1 {
			return false
		}
		i := slices.IndexFunc(p.nodes, func(n *node) bool { return slices.Contains(r.GetAddresses(), n.addr) })
		if i < 0 {
			return false
		}
		master = p.nodes[i]
		return r.GetStandbys()[0].GetAddress() == p.others(master)[0].addr
	})
	return master
}

// era is the era of the copy or log of a node.
func (n *node) era() uint64 { return era.Of(n.standing().GetHistoryId()) }

// TestPairPromotesItself takes the master of a pair away again and again, and nodes of its
// registry: the slave replaces the master by the registry's record, and the former master
// comes back as its slave. -chaos.pair sets the number of rounds, which go through all faults.
func TestPairPromotesItself(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	p := newTwins(t)
	l := startLoad(p.cluster, rng)
	var done []pairRound
	for i := range rounds(*pairRounds) {
		l.await(20 + rng.IntN(100))
		done = append(done, p.round(l, pairFaults[i%len(pairFaults)]))
	}
	promotions := p.master().era()
	if answered := l.era(); answered != promotions {
		t.Errorf("the last answers are of era %d, and the master of era %d", answered, promotions)
	}
	lost, late := l.judgePromoted()
	t.Logf("\n%s", l.table(done, lost, late))
}

// registryFault is how long a node of the registry is gone: longer than the master's lease,
// which lasts 2.5 s, so that it is renewed by the others.
const registryFault = 4 * time.Second

// pairRound is a fault and what was seen of it.
type pairRound struct {
	fault    string
	from, to time.Duration // since the history's start
	gap      time.Duration
}

// round injects a fault, waits until all is in order again, and compares the two nodes.
func (p *twins) round(l *load, fault pairFault) pairRound {
	p.t.Helper()
	master := p.master()
	next := p.others(master)[0]
	before := master.era()
	r := pairRound{fault: fault.name, from: l.mark()}
	began := clock()
	end := fault.hit(p, master)
	if fault.master {
		testkit.Eventually(p.t, "the slave is the master", func() bool { return next.standing().GetIsLeader() && next.era() > before })
	} else {
		lasting(registryFault)
	}
	l.await(20)
	r.gap = l.longestGap(r.from).Round(time.Millisecond)
	p.t.Logf("the master, node %d: %s at %s: no write for %v", master.number, fault.name, began, r.gap)
	end()
	p.master()
	l.quietly(func() { p.verify(p.nodes...) })
	r.to = l.mark()
	return r
}

// judgePromoted is verdict for nodes that start again from a snapshot when they rejoin, so that
// they do not retain all changes. It returns the writes that are lost and the answers of masters
// that others had replaced.
func (l *load) judgePromoted() (lost []written, late []answer) {
	l.t.Helper()
	l.end()
	l.readKeys()
	lost, late = l.lost(), l.late()
	result, _ := l.history.check(checkLimit)
	l.t.Logf("%d acknowledged writes, of %d single ones %d lost; %d operations on %d keys: %s; errors %v",
		l.acks.Load(), len(l.ledger), len(lost), len(l.history.ops), len(l.keys.used()), result, l.errs)
	if len(lost) > 0 || len(late) > 0 || result != porcupine.Ok {
		l.t.Errorf("%d acknowledged writes are lost; %d were answered by masters that others had replaced; linearizability: %s", len(lost), len(late), result)
	}
	for _, found := range l.c.checkReplicas() {
		l.t.Error(found)
	}
	return lost, late
}

// table shows the rounds by their faults. A round that is in it has ended with equal nodes.
func (l *load) table(rounds []pairRound, lost []written, late []answer) string {
	var out strings.Builder
	line := func(kind, n, median, worst, acked, lost, late, equal any) {
		fmt.Fprintf(&out, "%-42v %6v %8v %8v %6v %5v %12v %6v\n", kind, n, median, worst, acked, lost, late, equal)
	}
	line("fault", "rounds", "median", "worst", "acked", "lost", "two masters", "equal")
	add := func(kind string, of []pairRound) {
		var gaps []time.Duration
		acked, missing, twice := 0, 0, 0
		for _, r := range of {
			gaps = append(gaps, r.gap)
			acked += l.acksBetween(r.from, r.to)
			for _, w := range lost {
				missing += count(r.from <= w.at && w.at < r.to)
			}
			for _, a := range late {
				twice += count(r.from <= a.end && a.end < r.to)
			}
		}
		slices.Sort(gaps)
		line(kind, len(of), gaps[len(gaps)/2], gaps[len(gaps)-1], acked, missing, twice, len(of))
	}
	for _, f := range pairFaults {
		of := slices.DeleteFunc(slices.Clone(rounds), func(r pairRound) bool { return r.fault != f.name })
		if len(of) > 0 {
			add(f.name, of)
		}
	}
	if len(rounds) > 0 {
		add("all", rounds)
	}
	return out.String()
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}
