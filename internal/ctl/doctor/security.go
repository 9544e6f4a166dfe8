package doctor

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/observe"
)

func securityChecks() []Check {
	return []Check{
		{ID: "certificates", Title: "certificates are valid for a while", find: expiring, Needs: Report,
			Why: "when it has expired, no node and no client connects any more"},
		{ID: "allow-insecure", Title: "other hosts must show who they are", find: insecure, Needs: Report,
			Why: "any host that reaches the port may read and change everything that this allows"},
		{ID: "clear-text", Title: "nodes that others reach speak TLS", find: clear, Needs: Report,
			Why: "keys, values and tokens can be read and changed on the way"},
		{ID: "auth-file", Title: "the file of identities is in use", find: authFile, Needs: Metrics,
			Why: "changes to it, such as a revoked token, have no effect on that node"},
	}
}

const (
	certificateSoon = 30 * 24 * time.Hour
	certificateLate = 7 * 24 * time.Hour
)

func expiring(p *patient) []Finding {
	var out []Finding
	for _, n := range p.reported() {
		for _, c := range n.Report.Certificates {
			left := c.NotAfter.Sub(p.now)
			if left > certificateSoon {
				continue
			}
			f := Finding{Severity: Warning, Node: n.Name(), What: fmt.Sprintf("the certificate in %s expires in %d days (%s)", c.File, int(left.Hours()/24), c.NotAfter.UTC().Format("2006-01-02")),
				Mend: fmt.Sprintf("dkvctl -certs rotate %s where the authority is, and copy it to the node, which reads it by itself", c.File)}
			if c.Of == "authority" {
				f.Mend = "dkvctl -certs rotate ca replaces the authority step by step, and prints what to do"
			}
			if left < certificateLate {
				f.Severity = Problem
			}
			if left <= 0 {
				f.What = fmt.Sprintf("the certificate in %s has expired (%s)", c.File, c.NotAfter.UTC().Format("2006-01-02"))
			}
			out = append(out, f)
		}
	}
	return out
}

func insecure(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		exposed := n.Report.Config["allow-insecure"]
		if exposed == "false" || n.Report.Config["auth-file"] != "" || !reachable(n) {
			return nil
		}
		f := &Finding{Severity: Problem, What: "any host may do everything without authentication (allow-insecure: true)",
			Mend: "dkvctl -token new NAME -role admin -authFile auth.yaml makes credentials; set auth-file, and allow-insecure: false"}
		if exposed == "data" {
			f.Severity, f.What = Warning, "any host may read and write keys without authentication (allow-insecure: data)"
		}
		return f
	})
}

func clear(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		if n.Report.Config["tls-mode"] != "off" || !reachable(n) || n.Report.Config["allow-insecure"] == "false" && n.Report.Config["auth-file"] == "" {
			return nil
		}
		return &Finding{Severity: Warning, What: "it listens at " + n.Report.Config["listen-addr"] + " without TLS",
			Mend: "dkvctl -certs init and -certs node HOST make certificates; set tls-cert-file, tls-key-file and tls-ca-file (docs/OPERATIONS.md), node by node"}
	})
}

// reachable reports whether a node listens for other hosts than its own.
func reachable(n *observe.Node) bool {
	h := host(n.Report.Config["listen-addr"])
	addr, err := netip.ParseAddr(h)
	return h != "localhost" && (err != nil || !addr.IsLoopback())
}

func authFile(p *patient) []Finding {
	return each(p.live(), func(n *observe.Node) *Finding {
		failures := n.Metrics.Sum("dkv_auth_reload_failures_total")
		if failures == 0 {
			return nil
		}
		return &Finding{Severity: Warning, What: fmt.Sprintf("%.0f attempts to read it again have failed since the start", failures),
			Mend: fmt.Sprintf("curl http://%s/health says whether it still cannot be read and why; dkvctl -token list -authFile FILE checks a file", n.Status.GetHttpAddress())}
	})
}
