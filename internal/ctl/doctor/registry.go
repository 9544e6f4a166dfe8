package doctor

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/ctl/observe"
)

func registryChecks() []Check {
	return []Check{
		{ID: "registry-reached", Title: "the registry answers the nodes that use it", find: registryReached, Needs: Report,
			Why: "slaves find no other master and clients no nodes; what they learnt before goes on to work"},
		{ID: "registry-size", Title: "the registry has three nodes or more", find: registrySize, Why: "if it stops, no one finds a new leader, and standbys cannot be promoted"},
		{ID: "registry-disputes", Title: "one cluster holds each database", find: disputes, Needs: Metrics,
			Why: "a node of another cluster claims the database: clients may be sent to the wrong data"},
		{ID: "registry-rows", Title: "the registry knows each node as it is", find: rowsMissing, Why: "clients and slaves do not find a node that is not listed"},
	}
}

func registryReached(p *patient) []Finding {
	if len(p.in(observe.Discovery)) > 0 {
		return nil
	}
	return each(p.reported(), func(n *observe.Node) *Finding {
		if !n.Report.UsesRegistry() {
			return nil
		}
		return &Finding{Severity: Warning, What: "no node of the registry answers at " + list(n.Report.RegistryAddresses()),
			Mend: "start the registry (dkvsrv --role discovery), correct discovery-service.client.discovery-service-addr, or set disable-discovery-client: true if there is none"}
	})
}

func registrySize(p *patient) []Finding {
	nodes := 0
	for _, n := range p.Nodes {
		if n.Role() == observe.Discovery {
			nodes++
		}
	}
	if nodes == 0 || nodes >= 3 {
		return nil
	}
	plural := "nodes"
	if nodes == 1 {
		plural = "node"
	}
	return []Finding{{Severity: Warning, What: fmt.Sprintf("the registry has %d %s", nodes, plural),
		Mend: "run three nodes with --role discovery and the nexus flags of a cluster (docs/OPERATIONS.md, \"The registry\")"}}
}

func disputes(p *patient) []Finding {
	return each(p.in(observe.Discovery), func(n *observe.Node) *Finding {
		count := n.Metrics.Sum("dkv_cluster_disputed_vbuckets")
		if count == 0 {
			return nil
		}
		return &Finding{Severity: Problem, What: fmt.Sprintf("%.0f vBuckets are claimed by nodes of two clusters or histories", count),
			Mend: "dkvctl -clusterInfo shows the rows; stop the node that should not be there; dkvctl -releaseDatabase NAME lets another cluster have the name"}
	})
}

func rowsMissing(p *patient) []Finding {
	if p.Rows == nil {
		return nil
	}
	listed := make(map[string]bool)
	for _, r := range p.Rows {
		listed[r.GetNodeAddress()] = true
	}
	return each(p.reported(), func(n *observe.Node) *Finding {
		if !n.Report.UsesRegistry() || listed[n.Status.GetAddress()] {
			return nil
		}
		return &Finding{Severity: Warning, What: "it should be in the registry, and is not",
			Mend: fmt.Sprintf("curl http://%s/health says whether the registry rejects it; check advertise-addr and discovery-service.client.discovery-service-addr", n.Status.GetHttpAddress())}
	})
}
