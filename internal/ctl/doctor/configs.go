package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/observe"
)

func configChecks() []Check {
	return []Check{
		{ID: "config-limits", Title: "limits are the same on all nodes", find: differing(limitKeys), Needs: Report,
			Why: "a request that one node accepts is rejected by the next: which one leads decides"},
		{ID: "config-log", Title: "logs are kept alike on all nodes", find: differing(logKeys), Needs: Report,
			Why: "what slaves find and what writes wait for changes with each change of the leader"},
		{ID: "config-raft", Title: "Raft and leases are set alike on all masters", find: differing(raftKeys), Needs: Report,
			Why: "members must agree on how long a lease lasts and an election takes"},
		{ID: "config-security", Title: "security is set alike on all nodes", find: differing(securityKeys), Needs: Report,
			Why: "the weakest node decides who gets in, and clients work with some nodes only"},
		{ID: "config-notices", Title: "keys that are set have an effect", find: notices, Needs: Report, Why: "the configuration promises what the node does not do"},
	}
}

var (
	limitKeys = []string{"max-key-size", "max-value-size", "max-batch-size", "max-message-size", "max-requests-in-flight", "max-streams", "stream-stall-timeout",
		"max-connections", "max-connections-per-host"}
	logKeys = []string{"changelog-max-bytes", "changelog-max-age", "repl-ack", "repl-ack-timeout", "repl-ack-fallback", "repl-ack-from", "auto-promote-after",
		"nexus-snapshot-count", "nexus-snapshot-interval", "nexus-snapshot-catchup-entries"}
	raftKeys     = []string{"raft-profile", "raft-rtt", "raft-election-rtt", "raft-heartbeat-rtt", "lease-duration", "nexus-lease-based-reads", "nexus-repl-timeout", "max-clock-jump"}
	securityKeys = []string{"tls-mode", "tls-min-version", "tls-node-name", "allow-insecure", "audit-required"}
)

// differing finds the keys that nodes of the same role have different values of.
func differing(keys []string) func(*patient) []Finding {
	return func(p *patient) []Finding {
		var out []Finding
		for _, role := range []string{observe.Master, observe.Slave, observe.Discovery} {
			nodes := slices.DeleteFunc(p.in(role), func(n *observe.Node) bool { return n.Report == nil })
			for _, key := range keys {
				byValue := make(map[string][]string)
				for _, n := range nodes {
					value := n.Report.Config[key]
					byValue[value] = append(byValue[value], n.Name())
				}
				if len(byValue) < 2 {
					continue
				}
				out = append(out, Finding{Severity: Warning, What: fmt.Sprintf("%s differs between nodes with the role %s: %s", key, role, values(byValue)),
					Mend: "set it to the same value everywhere, and restart the nodes that had another, one after the other"})
			}
		}
		return out
	}
}

// values lists who has which value. The value of most comes first.
func values(byValue map[string][]string) string {
	order := slices.Sorted(maps.Keys(byValue))
	slices.SortStableFunc(order, func(a, b string) int { return len(byValue[b]) - len(byValue[a]) })
	parts := make([]string, len(order))
	for i, v := range order {
		shown := v
		if shown == "" {
			shown = "unset"
		}
		parts[i] = shown + " on " + list(byValue[v])
	}
	return strings.Join(parts, "; ")
}

func notices(p *patient) []Finding {
	var out []Finding
	for _, n := range p.reported() {
		for _, text := range n.Report.Notices {
			out = append(out, Finding{Severity: Warning, Node: n.Name(), What: text, Mend: "dkvsrv --check-config --config FILE shows the same; remove or correct the key"})
		}
	}
	return out
}
