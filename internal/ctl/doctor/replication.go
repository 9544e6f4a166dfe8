package doctor

import (
	"fmt"
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/observe"
)

func replicationChecks() []Check {
	return []Check{
		{ID: "lag", Title: "followers and slaves keep up", find: lag, Why: "reads there are old, and what they lack would be lost with the other copies"},
		{ID: "histories", Title: "slaves have the history of their masters", find: histories, Why: "a copy of another history gets no more changes"},
		{ID: "copies-kept", Title: "no slave waits for the order to resync", find: kept, Why: "the slave gets no changes until an operator decides between its copy and its master"},
		{ID: "stale", Title: "slaves may be read from", find: stale, Why: "clients are sent elsewhere, so that its share of the reads falls on the others"},
		{ID: "changelog-window", Title: "the change log outlasts a slave's absence", find: window, Needs: Report,
			Why: "a slave that is away for longer, or has lost more, has to copy the whole database"},
		{ID: "changelog-behind", Title: "the change log still has what slaves need", find: outrun, Why: "the slave has to copy the whole database instead of the changes that it lacks"},
		{ID: "dead-slaves", Title: "slaves that masters know are alive", find: deadSlaves, Why: "a copy that is not there protects nothing, and serves no reads"},
		{ID: "standbys", Title: "standbys of repl-ack are there", find: standbys, Why: "acknowledged writes are on the masters alone, or writes are refused, depending on repl-ack-fallback"},
		{ID: "no-copy", Title: "data has a second copy", find: noCopy, Why: "if its disk is lost, everything since the last backup is"},
	}
}

const (
	lagChanges = 1000
	lagTime    = 5 * time.Second
	// quietTime is as long for a slave that lacks no change that it knows of: one that polls asks
	// each repl-poll-interval, which is 5s by default, and a busy host is late now and then.
	quietTime = 15 * time.Second
	startTime = time.Minute    // in which a slave finds its master
	never     = 24 * time.Hour // how a node says that it has not been up to date since its start
)

// replaced reports whether a node is a master that a promotion has replaced or stopped: it keeps its
// log alone, and has a state that is not the newest.
func replaced(n *observe.Node) bool {
	return slices.ContainsFunc(n.Status.GetVBuckets(), func(v *serverpb.VBucketStatus) bool {
		return v.GetMode() == "local" && v.GetLagMillis() >= uint64(never.Milliseconds())
	})
}

// leads reports whether a node leads a vBucket. One that was replaced says so of the log that it had.
func leads(n *observe.Node, v *serverpb.VBucketStatus) bool { return v.GetIsLeader() && !replaced(n) }

func lag(p *patient) []Finding {
	return eachVBucket(p.data(), func(n *observe.Node, v *serverpb.VBucketStatus) *Finding {
		if replaced(n) {
			return nil // it is to follow no one
		}
		age := time.Duration(v.GetLagMillis()) * time.Millisecond
		if up := time.Duration(n.Status.GetUptime()) * time.Second; age >= never && v.GetLagChanges() == 0 && up < startTime {
			return nil
		}
		most := lagTime
		if v.GetLagChanges() == 0 {
			most = quietTime
		}
		if v.GetLagChanges() < lagChanges && age < most {
			return nil
		}
		since := "for " + age.Round(time.Second).String()
		if age >= never {
			since = "since it started"
		}
		return &Finding{Severity: Warning, What: fmt.Sprintf("vBucket %s lacks %d changes and has not been up to date %s", v.GetVBucket(), v.GetLagChanges(), since),
			Mend: "dkvctl -top shows whether it catches up; if not, compare disk-sync here and the network to its leader " + v.GetLeader()}
	})
}

// eachVBucket makes a finding of the first vBucket of each node for which say returns one.
func eachVBucket(nodes []*observe.Node, say func(*observe.Node, *serverpb.VBucketStatus) *Finding) []Finding {
	return each(nodes, func(n *observe.Node) *Finding {
		for _, v := range n.Status.GetVBuckets() {
			if f := say(n, v); f != nil {
				return f
			}
		}
		return nil
	})
}

// leading returns the node that leads a vBucket of a database, with its status of it.
func (p *patient) leading(database, vBucket string) (*observe.Node, *serverpb.VBucketStatus) {
	for _, n := range p.data() {
		for _, v := range n.Status.GetVBuckets() {
			if leads(n, v) && v.GetVBucket() == vBucket && n.Status.GetDatabase() == database {
				return n, v
			}
		}
	}
	return nil, nil
}

func histories(p *patient) []Finding {
	return eachVBucket(p.in(observe.Slave), func(n *observe.Node, v *serverpb.VBucketStatus) *Finding {
		leader, of := p.leading(n.Status.GetDatabase(), v.GetVBucket())
		if leader == nil || v.GetHistoryId() == "" || v.GetHistoryId() == of.GetHistoryId() {
			return nil
		}
		return &Finding{Severity: Problem, What: fmt.Sprintf("its copy of vBucket %s has another history than %s, which leads", v.GetVBucket(), leader.Name()),
			Mend: fmt.Sprintf("if the master is the right one: dkvctl -a %s -resync -force replaces the copy", n.Address)}
	})
}

func kept(p *patient) []Finding {
	return each(p.in(observe.Slave), func(n *observe.Node) *Finding {
		if n.Metrics.Sum("dkv_slave_copy_kept") == 0 {
			return nil
		}
		return &Finding{Severity: Problem, What: "its copy cannot follow any master that answers, and is kept until you decide",
			Mend: fmt.Sprintf("dkvctl -a %s -verify compares them; dkvctl -a %s -resync gives the copy up; dkvctl -a %[2]s -promote -force makes it the master", n.Address, n.Address)}
	})
}

func stale(p *patient) []Finding {
	return eachVBucket(p.in(observe.Slave), func(n *observe.Node, v *serverpb.VBucketStatus) *Finding {
		if v.GetUnhealthy() == "" {
			return nil
		}
		return &Finding{Severity: Problem, What: fmt.Sprintf("vBucket %s should not be read from: %s", v.GetVBucket(), v.GetUnhealthy()),
			Mend: "see that its master answers it (-status, repl-master-addr, the registry); max-active-lag is how old it may be"}
	})
}

// shortWindow is the age of changes that a master should keep for slaves: a night.
const shortWindow = 12 * time.Hour

func window(p *patient) []Finding {
	if len(p.in(observe.Slave)) == 0 {
		return nil
	}
	return each(p.reported(), func(n *observe.Node) *Finding {
		if n.Role() == observe.Discovery {
			return nil
		}
		text := n.Report.Config["changelog-max-age"]
		age, err := time.ParseDuration(text)
		if err != nil || age == 0 || age >= shortWindow {
			return nil
		}
		return &Finding{Severity: Warning, What: fmt.Sprintf("it keeps changes for %s only (changelog-max-age)", text),
			Mend: "raise changelog-max-age to longer than a slave is ever away, such as 24h, on all nodes; changelog-max-bytes bounds the disk that it takes"}
	})
}

func outrun(p *patient) []Finding {
	return eachVBucket(p.in(observe.Slave), func(n *observe.Node, v *serverpb.VBucketStatus) *Finding {
		leader, of := p.leading(n.Status.GetDatabase(), v.GetVBucket())
		if leader == nil || v.GetAppliedIndex()+1 >= of.GetFirstChangeNumber() || v.GetHistoryId() != of.GetHistoryId() {
			return nil
		}
		return &Finding{Severity: Warning, What: fmt.Sprintf("it has vBucket %s up to %d, and %s keeps changes from %d on", v.GetVBucket(), v.GetAppliedIndex(), leader.Name(), of.GetFirstChangeNumber()),
			Mend: "it copies a snapshot by itself; raise changelog-max-age and changelog-max-bytes so that it need not the next time"}
	})
}

func deadSlaves(p *patient) []Finding {
	var out []Finding
	for _, r := range p.Rows {
		if r.GetStatus() == serverpb.RegionStatus_INACTIVE && r.GetMasterHost() != "" && p.silent(r.GetNodeAddress()) {
			out = append(out, Finding{Severity: Warning, Node: r.GetNodeAddress(), What: fmt.Sprintf("the registry lists it as a slave of %s, and it does not answer", r.GetMasterHost()),
				Mend: "start it again; if it is gone for good, its row ends by itself (discovery-service.server.status-ttl)"})
		}
	}
	return out
}

// silent reports whether the node at an address does not answer.
func (p *patient) silent(address string) bool {
	for _, n := range p.live() {
		if n.Address == address || n.Status.GetAddress() == address {
			return false
		}
	}
	return true
}

func standbys(p *patient) []Finding {
	return eachVBucket(p.data(), func(n *observe.Node, v *serverpb.VBucketStatus) *Finding {
		set := v.GetStanding()
		if set == nil {
			return nil
		}
		connected := 0
		for _, s := range set.GetSlaves() {
			if s.GetConnected() && s.GetPhase() == "standing" {
				connected++
			}
		}
		mend := "start a slave with an address that repl-ack-from names, or allow others there (repl-ack-from); dkvctl -status -v shows the standbys"
		switch {
		case connected > 0:
			return nil
		case set.GetFallback():
			return &Finding{Severity: Warning, What: fmt.Sprintf("repl-ack is %s, but no slave stands by for vBucket %s: writes are acknowledged without one", set.GetLevel(), v.GetVBucket()), Mend: mend}
		}
		return &Finding{Severity: Problem, What: fmt.Sprintf("repl-ack is %s, and no connected slave stands by for vBucket %s", set.GetLevel(), v.GetVBucket()), Mend: mend}
	})
}

func noCopy(p *patient) []Finding {
	slaves := len(p.in(observe.Slave))
	return each(p.data(), func(n *observe.Node) *Finding {
		if n.Role() == observe.Standalone && slaves == 0 && !replaced(n) {
			return &Finding{Severity: Warning, What: "it is standalone and has no slave: its disk holds the only copy",
				Mend: fmt.Sprintf("dkvsrv --role slave --repl-master-addr %s --disable-discovery-client --db-folder OTHER keeps a copy; or run three masters", n.Address)}
		}
		return nil
	})
}
