package ctl

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv"
	"github.com/dkvdb/dkv/internal/ctl/drill"
	"github.com/dkvdb/dkv/internal/ctl/drill/load"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/observe"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/progress"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/timing"
)

// errPromise is the result of a drill whose promise did not hold: it has been printed.
var errPromise = errors.New("the drill found a promise that does not hold")

// Defaults of drills.
const (
	leastFault   = 10 * time.Second
	longestFault = time.Minute
	syncDelay    = 100 * time.Millisecond
	clientWaits  = 2 * time.Second
)

// runDrill runs a drill, or prints what the loss of a majority would mean.
func runDrill(ctx context.Context, s *session, args []string) error {
	if args[0] == drill.LostMajorityPlan {
		return s.planForLostMajority(ctx)
	}
	scenario := drill.ScenarioOf(args[0])
	if scenario == nil {
		return options.Usagef("-drill: %q is not a drill; there are %s", args[0], strings.Join(drill.Names(), ", "))
	}
	c := observe.Take(ctx, s.Client, observe.Want{Report: true})
	if err := s.noneAnswers(c); err != nil {
		return err
	}
	node, err := scenario.Pick(c)
	if err != nil {
		return err
	}
	d := &drilling{session: s, scenario: scenario, cluster: c, node: node}
	if err := d.prepare(ctx); err != nil {
		return err
	}
	if err := d.confirm(ctx); err != nil {
		return err
	}
	report, err := d.run(ctx)
	if err != nil {
		return err
	}
	return s.printDrill(report)
}

func (s *session) printDrill(r *drill.Report) error {
	if s.out.JSON {
		if err := s.out.Value(r); err != nil {
			return err
		}
	} else {
		for _, line := range r.Lines() {
			if err := s.out.Line(line); err != nil {
				return err
			}
		}
	}
	if !r.Held {
		return fmt.Errorf("%w: %s", errPromise, strings.Join(r.Broken, "; "))
	}
	return nil
}

// drilling is a drill with what it is run on.
type drilling struct {
	*session
	scenario *drill.Scenario
	cluster  *observe.Cluster
	node     *observe.Node
	promise  drill.Promise
	request  *serverpb.InjectFaultRequest
	lasts    time.Duration
	delay    time.Duration
	limit    time.Duration // of a request of the load
}

// prepare decides how the drill is run, and asks whether all nodes agree.
func (d *drilling) prepare(ctx context.Context) error {
	t, err := d.timing()
	if err != nil {
		return err
	}
	d.delay = cmp.Or(d.Delay, syncDelay)
	d.limit = clientWaits
	if d.Given["timeout"] {
		d.limit = d.Timeout
	}
	d.promise = d.scenario.Promise(drill.Terms{Timing: t, Delay: d.delay, Limit: d.limit, Registry: d.registryLease()})
	const margin = 5 * time.Second
	d.lasts = cmp.Or(d.Lasts, min(max(leastFault, d.promise.Keys+margin, d.promise.Slave+margin), longestFault))
	d.request = &serverpb.InjectFaultRequest{Kind: d.scenario.Fault, Millis: uint64(d.lasts.Milliseconds()), DelayMillis: uint64(d.delay.Milliseconds())}
	return d.agreed(ctx)
}

// agreed asks all nodes that are involved whether they agree to the drill.
func (d *drilling) agreed(ctx context.Context) error {
	for _, n := range d.involved() {
		if n.Status == nil {
			return fmt.Errorf("%s does not answer, and a drill might take the majority then: %w", n.Name(), n.Err)
		}
		if fault := n.Status.GetFault(); fault != "" {
			return fmt.Errorf("%s has a fault already: %s", n.Name(), fault)
		}
	}
	for _, n := range d.involved() {
		ask := &serverpb.InjectFaultRequest{Kind: "silent", Millis: d.request.GetMillis(), Check: true}
		if n == d.node {
			ask = d.checked()
		}
		if err := d.inject(ctx, n, ask, func(*serverpb.FaultState) {}); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
	}
	return nil
}

// stillAgreed looks at the cluster again right before the fault begins: since the node was
// chosen the user was asked, and the load has begun.
func (d *drilling) stillAgreed(ctx context.Context) error {
	// A node of the registry may have been found through what others are configured with: it is
	// asked at its own address, which takes less time than to ask for that again.
	all := d.to(slices.Concat(d.Addrs, []string{d.node.Address})...)
	defer all.Close()
	d.cluster = observe.Take(ctx, all.Client, observe.Want{})
	node, err := d.scenario.Again(d.cluster, d.node)
	if err != nil {
		return err
	}
	d.node = node
	return d.agreed(ctx)
}

func (d *drilling) checked() *serverpb.InjectFaultRequest {
	r := d.request
	return &serverpb.InjectFaultRequest{Kind: r.GetKind(), Millis: r.GetMillis(), DelayMillis: r.GetDelayMillis(), Check: true}
}

// involved are the nodes whose agreement the drill needs: all masters and slaves, and the node
// with the fault.
func (d *drilling) involved() []*observe.Node {
	return slices.DeleteFunc(slices.Clone(d.cluster.Nodes), func(n *observe.Node) bool { return n.Role() == observe.Discovery && n != d.node })
}

// leastPromoteAfter is the shortest auto-promote-after.
const leastPromoteAfter = 2 * time.Second

// registryLease is how long the shortest lease of the registry lasts that a master needs; 0 if
// none needs one.
func (d *drilling) registryLease() (least time.Duration) {
	for _, n := range d.cluster.Nodes {
		if n.Role() == observe.Discovery || n.Role() == observe.Slave || n.Status.GetRecord() == "" {
			continue
		}
		after := leastPromoteAfter
		if n.Report != nil {
			if set, err := time.ParseDuration(n.Report.Config["auto-promote-after"]); err == nil {
				after = max(after, set)
			}
		}
		if lease := standby.LeaseOf(after); least == 0 || lease < least {
			least = lease
		}
	}
	return least
}

// timing is that of the masters, or of the registry if the drill is about that.
func (d *drilling) timing() (timing.Timing, error) {
	if text := d.node.Status.GetTiming(); d.node.Role() == observe.Discovery && text != "" {
		return timing.Parse(text)
	}
	for _, n := range d.cluster.Nodes {
		if text := cmp.Or(n.Status.GetClusterTiming(), n.Status.GetTiming()); n.Role() == observe.Master && text != "" {
			return timing.Parse(text)
		}
	}
	return timing.Timing{}, errors.New("no master has said which timing the cluster has: only a cluster of masters has drills; see dkvctl -status -v")
}

// confirm asks the user, on a terminal.
func (d *drilling) confirm(ctx context.Context) error {
	say := func(text string) { _, _ = io.WriteString(d.stderr, text) }
	if !d.Quiet {
		say(d.scenario.Says(d.node, d.lasts, d.delay) + ".\nThe drill writes and reads below dkv-drill/, and removes that at the end.\n")
	}
	if d.Yes || terminal(d.stdin) == nil || terminal(d.stderr) == nil {
		return nil
	}
	say("Begin? [y/N] ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(d.stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case line := <-answer:
		if line != "y" && line != "yes" {
			return errors.New("the drill was not begun, and nothing was changed")
		}
		return nil
	}
}

// run runs the drill under its load.
func (d *drilling) run(ctx context.Context) (*drill.Report, error) {
	var masters, names []string
	slaves := make(map[string]*dkv.Client)
	for _, n := range d.cluster.Nodes {
		switch n.Role() {
		case observe.Master:
			masters = append(masters, n.Address)
		case observe.Slave:
			c, err := d.Database(ctx, []string{n.Address}, dkv.WithFixedAddresses(), dkv.WithTimeout(d.limit))
			if err != nil {
				return nil, err
			}
			defer c.Close()
			slaves[n.Name()], names = c, append(names, n.Name())
		}
	}
	c, err := d.Database(ctx, masters, dkv.WithTimeout(d.limit))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	run := &drill.Run{
		Scenario: d.scenario, Promise: d.promise, Load: load.New(c, slaves), Node: d.node.Name(), Slaves: names, Lasts: d.lasts,
		Inject: func(ctx context.Context, began func(string)) error {
			if err := d.stillAgreed(ctx); err != nil {
				return fmt.Errorf("the fault was not begun: %w", err)
			}
			return d.fault(ctx, began)
		},
		CaughtUp: d.caughtUp,
	}
	stop := d.report(ctx, func(context.Context) progress.State { return run.Progress() })
	defer stop()
	report, err := run.Run(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, errInterruptedDrill
	}
	return report, err
}

var errInterruptedDrill = errors.New("interrupted: the node ends the fault, and the keys below dkv-drill/ are removed as far as the cluster served that; " +
	"-status shows a fault that is still active, and -keys dkv-drill/ lists what is left")

// fault gives the node the fault of the drill, until it is over.
func (d *drilling) fault(ctx context.Context, began func(string)) error {
	begun := false
	err := d.inject(ctx, d.node, d.request, func(s *serverpb.FaultState) {
		if !begun {
			began(s.GetText())
		}
		begun = true
	})
	if err != nil && begun && ctx.Err() == nil {
		return fmt.Errorf("%s went away in the middle of the drill, which ends the fault, so that there is no verdict; "+
			"dkvctl -status shows whether it is back: start it if it is down, and begin the drill again (%w)", d.node.Name(), err)
	}
	return err
}

// inject sends a fault to a node and hands on what the node says, until it is over.
func (d *drilling) inject(ctx context.Context, n *observe.Node, r *serverpb.InjectFaultRequest, said func(*serverpb.FaultState)) error {
	one := d.to(n.Address) // with a connection of its own, which the fault does not concern
	defer one.Close()
	if !r.GetCheck() {
		one.Timeout += d.lasts
	}
	return one.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		states, err := serverpb.NewDKVNodeClient(conn).InjectFault(ctx, r)
		for err == nil {
			var state *serverpb.FaultState
			if state, err = states.Recv(); err == nil {
				said(state)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}

// How long the node may take after the fault, and how often it is asked.
const (
	caughtUpWithin = 30 * time.Second
	askAgain       = 50 * time.Millisecond
)

// caughtUp waits until the node serves, with all that the others have.
func (d *drilling) caughtUp(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, caughtUpWithin)
	defer cancel()
	one := d.to(d.node.Address)
	defer one.Close()
	one.Timeout = time.Second
	for sleep.For(ctx, askAgain) {
		status, err := one.NodeStatus(ctx)
		if err == nil && !slices.ContainsFunc(status.GetVBuckets(), notBack) {
			return true
		}
	}
	return false
}

// lagsLittle is how many changes a node may lack that has caught up, since the load goes on.
const lagsLittle = 100

func notBack(v *serverpb.VBucketStatus) bool {
	return v.GetState() != "serving" || v.GetUnhealthy() != "" || v.GetLagChanges() > lagsLittle
}
