package doctor

import (
	"fmt"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/observe"
)

func stateChecks() []Check {
	return []Check{
		{ID: "serving", Title: "every vBucket is served", find: serving, Why: "requests for what is not served fail, or go to fewer nodes"},
		{ID: "paused", Title: "writes are not paused", find: paused, Why: "every write of these vBuckets is rejected until they are resumed"},
		{ID: "promoted", Title: "nodes are what they are configured to be", find: became,
			Why: "the configuration says something else, and misleads its readers; data of a former master is kept aside"},
		{ID: "damage", Title: "no damaged data was read", find: damage, Needs: Metrics, Why: "reads of the damaged part fail, and the rest of the disk may follow"},
		{ID: "compaction", Title: "compactions keep up", find: compaction, Needs: Metrics, Why: "reads slow down, and in the end writes wait for compactions"},
		{ID: "own-view", Title: "nodes find nothing wrong with themselves", find: ownView, Needs: Health, Why: "the node says so itself, in /health"},
	}
}

func serving(p *patient) []Finding {
	return each(p.data(), func(n *observe.Node) *Finding {
		var bad []string
		why := ""
		for _, v := range n.Status.GetVBuckets() {
			if v.GetState() != "serving" {
				bad, why = append(bad, v.GetVBucket()+" is "+v.GetState()), v.GetReason()
			}
		}
		if len(bad) == 0 {
			return nil
		}
		what := "vBucket " + list(bad)
		if why != "" {
			what += ": " + why
		}
		return &Finding{Severity: Problem, What: what, Mend: fmt.Sprintf("curl http://%s/health shows how far it is; its log says more", n.Status.GetHttpAddress())}
	})
}

func paused(p *patient) []Finding {
	return each(p.data(), func(n *observe.Node) *Finding {
		var names []string
		for _, v := range n.Status.GetVBuckets() {
			if v.GetWritesPaused() && v.GetIsLeader() {
				names = append(names, v.GetVBucket())
			}
		}
		if len(names) == 0 {
			return nil
		}
		return &Finding{Severity: Problem, What: fmt.Sprintf("writes of vBucket %s are paused", list(names)),
			Mend: fmt.Sprintf("dkvctl -a %s -resumeWrites", n.Address)}
	})
}

func became(p *patient) []Finding {
	return each(p.live(), func(n *observe.Node) *Finding {
		text := n.Status.GetBecame()
		if text == "" {
			return nil
		}
		return &Finding{Severity: Warning, What: strings.TrimSuffix(text, "."),
			Mend: "change role and repl-master-addr in its configuration to what it is now; a former master: dkvctl -rejoin, look at lost-changes.jsonl, dkvctl -dropAside"}
	})
}

func damage(p *patient) []Finding {
	return each(p.live(), func(n *observe.Node) *Finding {
		if n.Metrics.Sum("dkv_storage_corrupt") == 0 {
			return nil
		}
		return &Finding{Severity: Problem, What: "a read has met damaged data", Mend: "stop it, and start it with an empty folder: a member joins again (--nexus-join, " +
			"dkvctl -removeNode and -addNode), a slave copies the master; a standalone node: dkvctl -restore PATH. Check the disk before"}
	})
}

const pendingTooMuch = 8 << 30

func compaction(p *patient) []Finding {
	return each(p.live(), func(n *observe.Node) *Finding {
		pending := n.Metrics.Sum("dkv_storage_pending_compaction_bytes")
		if pending < pendingTooMuch {
			return nil
		}
		return &Finding{Severity: Warning, What: fmt.Sprintf("%s wait to be compacted", size(uint64(pending))),
			Mend: "spread the writes (more vBuckets or masters), or give the host a faster disk; dkv_storage_pending_compaction_bytes shows whether it grows"}
	})
}

// ownView passes on why a node is not healthy. The reasons say what to do.
func ownView(p *patient) []Finding {
	var out []Finding
	for _, n := range p.live() {
		if n.Health == nil || n.Health.Status == "healthy" {
			continue
		}
		severity := Warning
		if n.Health.Status == "unhealthy" {
			severity = Problem
		}
		for _, reason := range n.Health.Reasons {
			out = append(out, Finding{Severity: severity, Node: n.Name(), What: n.Health.Status + ": " + reason,
				Mend: "as it says; GET /health of the node shows when it is over"})
		}
	}
	return out
}

// size writes a number of bytes in the largest fitting unit.
func size(n uint64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
