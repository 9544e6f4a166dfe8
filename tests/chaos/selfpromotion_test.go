package chaos

import (
	"context"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

var pairRounds = flag.Int("chaos.pair", 2, "rounds of the test of a pair that promotes itself")

// twins are two nodes, of which one is the master, and a registry.
type twins struct {
	*cluster
	t        *testing.T
	registry *node
}

// newTwins starts a pair on networks of their own.
func newTwins(t *testing.T) *twins {
	t.Helper()
	clients, places, err := networks(3)
	if err != nil {
		testkit.SkipFault(t, "partition", err)
	}
	c := makeCluster(t, clients, places[:2], nodeIP)
	p := &twins{cluster: c, t: t, registry: c.node(places[2], nodeIP(2), "--role", "discovery")}
	c.registry = []*node{p.registry}
	keys := []string{"--auto-promote-after", "3s", "--repl-ack", "sync", "--repl-ack-fallback", "async", "--auto-rejoin"}
	c.nodes[0].role = append([]string{"--role", "none"}, keys...)
	c.nodes[1].role = append([]string{"--role", "slave", "--repl-master-addr", c.nodes[0].addr, "--repl-mode", "stream"}, keys...)
	c.start(p.registry)
	c.start(c.nodes...)
	p.master()
	return p
}

// master waits until one node is the master and the other one stands by in the record, and
// returns the master.
func (p *twins) master() (master *node) {
	p.t.Helper()
	testkit.Eventually(p.t, "one node is the master, and the other one stands by in the record", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		res, err := peerpb.NewWitnessClient(p.registry.conn).GetRecord(ctx, &peerpb.GetRecordRequest{Database: "default"}, grpc.WaitForReady(true))
		r := res.GetRecord()
		if err != nil || res.GetGrantedMillis() == 0 || len(r.GetStandbys()) != 1 {
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

// masterFaults take a master away, and bring it back.
var masterFaults = []struct {
	name       string
	hit, after func(*twins, *node)
}{
	{"kill", func(_ *twins, n *node) { n.kill() }, func(p *twins, n *node) { p.start(n) }},
	{"pause", func(_ *twins, n *node) { n.pause() }, func(_ *twins, n *node) { n.resume() }},
	{"cut from the registry", func(p *twins, n *node) { n.cut(rules(true, true, p.registry)) }, healed},
	{"cut from both", func(p *twins, n *node) { n.cut(rules(true, true, p.registry, p.others(n)[0])) }, healed},
	{"deaf", func(p *twins, n *node) { n.cut(rules(true, false, p.registry, p.others(n)[0])) }, healed},
	{"dumb", func(p *twins, n *node) { n.cut(rules(false, true, p.registry, p.others(n)[0])) }, healed},
}

func healed(_ *twins, n *node) { n.heal() }

// rules cut a node off from others.
func rules(in, out bool, from ...*node) (rules []string) {
	for _, o := range from {
		if in {
			rules = append(rules, "INPUT -s "+o.ip)
		}
		if out {
			rules = append(rules, "OUTPUT -d "+o.ip)
		}
	}
	return rules
}

// TestPairPromotesItself takes the master of a pair away again and again: the slave replaces it
// by the registry's record, and the former master comes back as its slave.
func TestPairPromotesItself(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	p := newTwins(t)
	l := startLoad(p.cluster, rng)
	var gaps []time.Duration
	for i := range rounds(*pairRounds) {
		fault := masterFaults[i%len(masterFaults)]
		l.await(20 + rng.IntN(100))
		master := p.master()
		from, began, next := l.mark(), clock(), p.others(master)[0]
		fault.hit(p, master)
		testkit.Eventually(t, "the slave is the master", func() bool { return next.standing().GetIsLeader() })
		l.await(20)
		gap := l.longestGap(from).Round(time.Millisecond)
		gaps = append(gaps, gap)
		t.Logf("node %d, %s at %s: no write for %v", master.number, fault.name, began, gap)
		fault.after(p, master)
		p.master()
	}
	t.Logf("no write for %v", gaps)
	l.pairVerdict()
}

// pairVerdict is verdict for nodes that start again from a snapshot when they rejoin, so that
// they do not retain all changes.
func (l *load) pairVerdict() {
	l.t.Helper()
	l.end()
	l.readKeys()
	lost := l.lost()
	result, _ := l.history.check(checkLimit)
	l.t.Logf("%d acknowledged writes, of %d single ones %d lost; %d operations on %d keys: %s; errors %v",
		l.acks.Load(), len(l.ledger), lost, len(l.history.ops), len(l.keys.used()), result, l.errs)
	if lost > 0 || result != porcupine.Ok {
		l.t.Errorf("%d acknowledged writes are lost; linearizability: %s", lost, result)
	}
	for _, found := range l.c.checkReplicas() {
		l.t.Error(found)
	}
}
