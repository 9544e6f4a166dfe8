// Package doctor examines a cluster that package observe has looked at: a table of checks,
// each of which finds what is wrong, says why it matters and names the command that mends it.
package doctor

import (
	"cmp"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/observe"
)

// Severity is how bad a finding is.
type Severity string

const (
	// Problem is something that fails now, or that loses data or service with one more fault.
	Problem Severity = "problem"
	// Warning is something that will become one, or that makes one worse.
	Warning Severity = "warning"
)

// Finding is something that is wrong.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Node     string   `json:"node,omitempty"` // empty for the cluster as a whole
	What     string   `json:"what"`
	Why      string   `json:"why"`
	Mend     string   `json:"mend"`
}

// Check looks for one thing that can be wrong.
type Check struct {
	// ID names the check, such as disk-room; Title says what it looks at.
	ID, Title string
	// Needs is what the check is made from.
	Needs Needs
	// Why says why it matters.
	Why  string
	find func(*patient) []Finding
}

// Needs is what a check is made from.
type Needs int

const (
	Status  Needs = iota // the status that every node answers
	Health               // GET /health
	Metrics              // GET /metrics/json
	Report               // GET /admin/node, for administrators
)

// State is what became of a check.
type State string

const (
	OK      State = "ok"
	Found   State = "found"
	Partly  State = "partly"  // nothing was found, but not all nodes could be examined
	Skipped State = "skipped" // no node could be examined
)

// Result is what became of a check.
type Result struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	State State  `json:"state"`
}

// Diagnosis is the outcome of all checks.
type Diagnosis struct {
	Nodes    int       `json:"nodes"`
	Problems int       `json:"problems"`
	Warnings int       `json:"warnings"`
	Findings []Finding `json:"findings"`
	Checks   []Result  `json:"checks"`
}

// Checks returns all checks, in the order in which they are made.
func Checks() []Check {
	return slices.Concat(memberChecks(), stateChecks(), replicationChecks(), registryChecks(), clockChecks(),
		diskChecks(), hostChecks(), configChecks(), securityChecks(), backupChecks())
}

// Examine makes all checks. The worst findings come first.
func Examine(c *observe.Cluster) Diagnosis {
	p := &patient{Cluster: c, now: c.At}
	d := Diagnosis{Nodes: len(c.Nodes), Findings: []Finding{}}
	for _, check := range Checks() {
		found := check.find(p)
		for i := range found {
			found[i].Check, found[i].Why = check.ID, cmp.Or(found[i].Why, check.Why)
		}
		d.Findings = append(d.Findings, merged(found)...)
		d.Checks = append(d.Checks, Result{ID: check.ID, Title: check.Title, State: p.stateOf(check.Needs, len(found) > 0)})
	}
	slices.SortStableFunc(d.Findings, func(a, b Finding) int { return cmp.Compare(rank(a.Severity), rank(b.Severity)) })
	for _, f := range d.Findings {
		if f.Severity == Problem {
			d.Problems++
		} else {
			d.Warnings++
		}
	}
	return d
}

// merged joins the findings of a check that say the same of several nodes.
func merged(found []Finding) []Finding {
	var out []Finding
	for _, f := range found {
		i := slices.IndexFunc(out, func(o Finding) bool {
			return o.Severity == f.Severity && o.What == f.What && o.Mend == f.Mend
		})
		if i < 0 {
			out = append(out, f)
		} else if f.Node != "" {
			out[i].Node += ", " + f.Node
		}
	}
	return out
}

func rank(s Severity) int { return slices.Index([]Severity{Problem, Warning}, s) }

// patient is the cluster that is examined.
type patient struct {
	*observe.Cluster
	now time.Time
}

// stateOf returns what became of a check.
func (p *patient) stateOf(n Needs, found bool) State {
	live, has := 0, 0
	for _, node := range p.live() {
		live++
		if n == Status || n == Health && node.Health != nil || n == Metrics && node.Metrics != nil || n == Report && node.Report != nil {
			has++
		}
	}
	switch {
	case found:
		return Found
	case has == 0:
		return Skipped
	case has < live:
		return Partly
	}
	return OK
}

// live are the nodes that answer.
func (p *patient) live() []*observe.Node {
	return p.having(func(n *observe.Node) bool { return n.Status != nil })
}

// reported are the nodes that have described themselves and their hosts.
func (p *patient) reported() []*observe.Node {
	return p.having(func(n *observe.Node) bool { return n.Report != nil })
}

// in are the nodes that answer in a role.
func (p *patient) in(role string) []*observe.Node {
	return p.having(func(n *observe.Node) bool { return n.Status != nil && n.Role() == role })
}

// data are the nodes that answer and store data of a database.
func (p *patient) data() []*observe.Node {
	return p.having(func(n *observe.Node) bool { return n.Status != nil && n.Role() != observe.Discovery })
}

func (p *patient) having(is func(*observe.Node) bool) []*observe.Node {
	return slices.DeleteFunc(slices.Clone(p.Nodes), func(n *observe.Node) bool { return !is(n) })
}

// each makes a finding of each node for which say returns one.
func each(nodes []*observe.Node, say func(*observe.Node) *Finding) []Finding {
	var out []Finding
	for _, n := range nodes {
		if f := say(n); f != nil {
			f.Node = n.Name()
			out = append(out, *f)
		}
	}
	return out
}
