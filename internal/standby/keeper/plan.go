package keeper

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/confirm"
)

// step is one change of a standing set.
type step struct {
	// next replaces the set that was last changed at index over.
	next standby.Set
	over kv.Index
	// taken are the disks that the record must no longer name before the change.
	taken []string
	// event, about and severity are how the change is logged.
	event    string
	about    []any
	severity slog.Level
}

// look is what is known of a log when a step is chosen.
type look struct {
	log   *kept
	first bool
	set   standby.Set
	over  kv.Index
}

// plan returns the next change of a log's set, nil if there is none to make.
func (k *Keeper) plan(i int) (*step, error) {
	v := look{log: k.logs[i], first: i == 0}
	var err error
	if v.set, v.over, err = v.log.Set(); err != nil {
		return nil, err
	}
	v.set.Nodes = slices.Clone(v.set.Nodes)
	for _, choose := range []func(*look) *step{k.lease, k.takeOut, k.putOut, k.mark, k.stand, k.list, k.settle} {
		if s := choose(&v); s != nil {
			s.over = v.over
			return s, nil
		}
	}
	return nil, nil
}

// lease has the log say that its owners need the lease of the record. That they need none any
// more is an operator's decision.
func (k *Keeper) lease(v *look) *step {
	if !k.opts.Leases || v.set.Leased {
		return nil
	}
	v.set.Leased = true
	return &step{next: v.set, event: "answers need the lease of the registry from now on (auto-promote-after)", severity: slog.LevelInfo}
}

// takeOut takes the nodes that are leaving out of the log. If none is left and answers fall
// back then, the log says so with the same entry.
func (k *Keeper) takeOut(v *look) *step {
	s := &step{next: v.set, event: "a slave no longer stands by", severity: slog.LevelInfo}
	s.next.Nodes = slices.DeleteFunc(slices.Clone(v.set.Nodes), func(n standby.Node) bool {
		if n.Phase == standby.Leaving {
			s.taken = append(s.taken, n.Disk)
			s.about = append(s.about, "address", n.Address)
		}
		return n.Phase == standby.Leaving
	})
	if len(s.taken) == 0 {
		return nil
	}
	if len(s.next.Nodes) == 0 {
		s.next.Level = k.opts.Level
		if k.fallsBack() {
			s.fallBack()
		}
	}
	return s
}

func (k *Keeper) fallsBack() bool { return k.opts.FallBack && k.opts.Level > kv.AckAsync }

func (s *step) fallBack() {
	s.next.Fallback = true
	s.event, s.severity = "no slave stands by: writes are acknowledged without one (repl-ack-fallback: async)", slog.LevelWarn
}

// putOut has nodes leave that no longer fit.
func (k *Keeper) putOut(v *look) *step {
	for i := range v.set.Nodes {
		n := &v.set.Nodes[i]
		why := cmp.Or(k.unfit(v, n), fallen(v, n))
		if why == "" {
			continue
		}
		n.Phase = standby.Leaving
		return &step{next: v.set, event: "a slave stops standing by", severity: slog.LevelWarn,
			about: []any{"address", n.Address, "reason", why}}
	}
	return nil
}

// unfit returns why a node must leave; empty if it may stay.
func (k *Keeper) unfit(v *look, n *standby.Node) string {
	if v.set.Level != k.opts.Level {
		return fmt.Sprintf("the level was %v and is %v now; what was acknowledged before is checked again", v.set.Level, k.opts.Level)
	}
	if silent := v.log.Stuck(n.Disk); silent > k.opts.Timeout {
		k.silence(n.Disk)
		return fmt.Sprintf("it has confirmed nothing for %v (repl-ack-timeout)", silent.Round(time.Millisecond))
	}
	slots := v.log.Slots()
	i := slices.IndexFunc(slots, func(s confirm.Slot) bool { return s.Slave.Disk == n.Disk })
	switch {
	case i >= 0 && slots[i].Connected && slots[i].Slave.Address != n.Address:
		return "its disk confirms from " + slots[i].Slave.Address + " now; if that is a copy of its folder, remove the file DISK there"
	case i >= 0 && slots[i].Connected && !slots[i].Slave.Durable:
		return "it has no disk, or could not be a master; its own log says why"
	case (i < 0 || !slots[i].Connected) && superseded(n, slots):
		return "the slave at its address has another disk now"
	case !v.first && !k.wanted(n.Disk):
		return "another one is to stand by"
	case !v.first:
		return ""
	case i >= 0 && k.opts.DC != "" && slots[i].Slave.DC != k.opts.DC:
		return "repl-ack-from asks for one of data centre " + k.opts.DC
	case n.Phase == standby.Coming && (i < 0 || slots[i].Lost > k.opts.Timeout) && k.best(v, slots) != nil:
		return "it is gone, and another one can stand by"
	case k.replaceable(v, n, slots):
		return "it does not stand by in another vBucket, and another one may"
	}
	return ""
}

// superseded reports whether a slave with another disk confirms from a node's address: the disk was replaced, or
// wiped. If nothing is written no answer waits for it in vain, and the record would go on naming a disk
// that no one has.
func superseded(n *standby.Node, slots []confirm.Slot) bool {
	return slices.ContainsFunc(slots, func(s confirm.Slot) bool {
		return s.Connected && s.Slave.Address == n.Address && s.Slave.Disk != n.Disk
	})
}

// fallen returns why a standing node must leave whose copy is older than it was: it lacks what
// was acknowledged, and no answer may be waiting that would find that out.
func fallen(v *look, n *standby.Node) string {
	at, before, is := v.log.Fallen(n.Disk, v.set.Level)
	if !is || n.Phase != standby.Standing {
		return ""
	}
	return fmt.Sprintf("its copy is older than before: it has change %d, and had confirmed %d; it stands by again once it has caught up", at, before)
}

// mark marks nodes as down that are silent while an answer at kv.AckAll waits for them, and
// ends the marks of those that are back. Answers wait for these again from then on.
func (k *Keeper) mark(v *look) *step {
	if v.log.Everyone == nil {
		return nil
	}
	if back := v.log.Everyone.Returned(v.set.Down, v.log.LastEffect()); len(back) > 0 {
		v.set.Down = slices.DeleteFunc(slices.Clone(v.set.Down), func(a string) bool { return slices.Contains(back, a) })
		return &step{next: v.set, event: "nodes are marked as down no longer: writes at level all wait for them", severity: slog.LevelInfo,
			about: []any{"addresses", back}}
	}
	silent := slices.DeleteFunc(v.log.Everyone.Silent(k.opts.Timeout), func(a string) bool { return slices.Contains(v.set.Down, a) })
	if len(silent) == 0 {
		return nil
	}
	silent, crowded := fitting(v.set, silent)
	if crowded && !v.log.crowded {
		k.opts.Log.Warn("so many nodes are silent that not all can be marked as down: writes at level all fail until the others are back, or off the list of slaves",
			"vbucket", v.log.VBucket())
	}
	if v.log.crowded = crowded; len(silent) == 0 {
		return nil
	}
	v.set.Down = append(slices.Clone(v.set.Down), silent...)
	return &step{next: v.set, event: "nodes are marked as down: writes at level all do not wait for them", severity: slog.LevelWarn,
		about: []any{"addresses", silent, "reason", fmt.Sprintf("applied nothing for %v (repl-ack-timeout)", k.opts.Timeout)}}
}

// spare is the room that marks leave in a record, in bytes, for the nodes that stand by.
const spare = 4 << 10

// fitting returns as many of the silent nodes as a set has room for, and whether that is not all.
func fitting(set standby.Set, silent []string) (fits []string, crowded bool) {
	down := slices.Clone(set.Down)
	n := sort.Search(len(silent), func(n int) bool {
		set.Down = append(down, silent[:n+1]...)
		return len(set.Record()) > command.MaxStandbys-spare
	})
	return silent[:n], n < len(silent)
}

// wanted reports whether the first vBucket's set has a disk that is to stay.
func (k *Keeper) wanted(disk string) bool {
	set, _, err := k.logs[0].Set()
	n, listed := set.Find(disk)
	return err == nil && listed && n.Phase != standby.Leaving
}

func (k *Keeper) silence(disk string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.silenced[disk] = time.Now()
}

// quietFor is how long ago a disk was put out for its silence.
func (k *Keeper) quietFor(disk string) (since time.Duration, ever bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ever := k.silenced[disk]
	return time.Since(at), ever
}

// stand has a node stand that has all that was acknowledged before it was listed.
func (k *Keeper) stand(v *look) *step {
	for i := range v.set.Nodes {
		n := &v.set.Nodes[i]
		if n.Phase != standby.Coming || !v.log.Has(n.Disk, k.opts.Level, v.over) {
			continue
		}
		n.Phase = standby.Standing
		v.set.Fallback = false
		return &step{next: v.set, event: "a slave stands by", severity: slog.LevelInfo,
			about: []any{"address", n.Address, "level", k.opts.Level.String()}}
	}
	return nil
}

// list has a slave come if none stands by or comes.
func (k *Keeper) list(v *look) *step {
	if k.opts.Level <= kv.AckAsync || len(v.set.Nodes) > 0 {
		return nil
	}
	c := k.best(v, v.log.Slots())
	if c == nil {
		return nil
	}
	v.set.Level = k.opts.Level
	v.set.Nodes = []standby.Node{{Disk: c.Disk, Address: c.Address, Phase: standby.Coming}}
	return &step{next: v.set, event: "a slave is to stand by", severity: slog.LevelInfo, about: []any{"address", c.Address}}
}

// nearly is how many indexes a slave may lag to be chosen: answers wait for it from then on.
const nearly = 4096

// best returns the slave that may stand by and lags least; nil if there is none.
func (k *Keeper) best(v *look, slots []confirm.Slot) *confirm.Slave {
	var best *confirm.Slot
	for i := range slots {
		s := &slots[i]
		switch {
		case !s.Connected || !s.Follows || !s.Slave.Durable || s.Lag > nearly:
			continue
		case k.opts.DC != "" && s.Slave.DC != k.opts.DC:
			continue
		case !v.first && !k.wanted(s.Slave.Disk):
			continue
		}
		if _, listed := v.set.Find(s.Slave.Disk); listed {
			continue
		}
		if since, ever := k.quietFor(s.Slave.Disk); ever && s.Age >= since {
			continue // it has confirmed nothing since it was put out
		}
		if best == nil || k.before(s, best) {
			best = s
		}
	}
	if best == nil {
		return nil
	}
	return &best.Slave
}

// before reports whether a slave is to be chosen rather than another one: one of which it is not
// known that it does not stand in another vBucket, and of those the one that lags less.
func (k *Keeper) before(a, b *confirm.Slot) bool {
	long := func(s *confirm.Slot) bool { return k.missing(s.Slave.Disk) > k.opts.Timeout }
	if la, lb := long(a), long(b); la != lb {
		return lb
	}
	return a.Lag < b.Lag
}

// connecting is for how long answers wait for the first slave to connect, before they fall back. No
// longer time-out than that counts: none stands by that could be slow, and writes are to go on soon
// after a promotion.
const connecting = time.Second

// settle records what an empty set means.
func (k *Keeper) settle(v *look) *step {
	if len(v.set.Nodes) > 0 || v.over == 0 && k.opts.Level <= kv.AckAsync {
		return nil
	}
	s := &step{next: v.set, event: "the standing set is empty", severity: slog.LevelInfo, about: []any{"level", k.opts.Level.String()}}
	s.next.Level, s.next.Fallback = k.opts.Level, v.set.Fallback && k.fallsBack()
	if k.fallsBack() && !s.next.Fallback && time.Since(v.log.since) >= min(k.opts.Timeout, connecting) {
		s.fallBack()
	}
	if s.next.Level == max(v.set.Level, kv.AckAsync) && s.next.Fallback == v.set.Fallback {
		return nil
	}
	return s
}
