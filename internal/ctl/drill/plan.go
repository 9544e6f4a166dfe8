// Package drill prepares for what may happen to a cluster.
package drill

import (
	"cmp"
	"fmt"
	"slices"
)

// Node is a node as far as the loss of others concerns it.
type Node struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// Slave is a copy beside the cluster; Voter is a member with a vote.
	Slave bool `json:"slave,omitempty"`
	Voter bool `json:"voter,omitempty"`
	// Answers reports whether the node has shown its indexes.
	Answers bool `json:"answers"`
	// Applied and Committed are indexes by vBucket.
	Applied   map[string]uint64 `json:"applied,omitempty"`
	Committed map[string]uint64 `json:"-"`
	// Missing is how many entries of the logs the node lacks at this moment.
	Missing uint64 `json:"missing"`
}

// Way is a way back to a database that accepts writes.
type Way struct {
	Text     string   `json:"text"`
	Loss     string   `json:"loss"`
	Commands []string `json:"commands"`
}

// Plan says what the loss of a majority of a cluster would mean at this moment.
type Plan struct {
	Voters   int    `json:"voters"`
	Majority int    `json:"majority"`
	Nodes    []Node `json:"nodes"`
	Ways     []Way  `json:"ways"`
}

// LostMajority returns the plan for a cluster's members and slaves.
func LostMajority(nodes []Node) *Plan {
	newest := make(map[string]uint64)
	p := &Plan{Nodes: slices.Clone(nodes)}
	for _, n := range p.Nodes {
		if n.Voter {
			p.Voters++
		}
		for v, index := range n.Committed {
			newest[v] = max(newest[v], index)
		}
		for v, index := range n.Applied {
			newest[v] = max(newest[v], index)
		}
	}
	p.Majority = p.Voters/2 + 1
	for i := range p.Nodes {
		n := &p.Nodes[i]
		for v, index := range newest {
			if n.Answers {
				n.Missing += index - n.Applied[v]
			}
		}
	}
	p.Ways = append(p.Ways, Way{
		Text: "the folders of the lost masters are intact: start these masters again, as many as are needed for a majority",
		Loss: "nothing is lost",
	})
	p.Ways = append(p.Ways, p.fromFolder())
	if s := p.bestSlave(); s != nil && len(newest) == 1 {
		p.Ways = append(p.Ways, Way{
			Text:     fmt.Sprintf("the folders are gone, and a slave is left: stop all masters, and make the slave %s the master", s.Name),
			Loss:     fmt.Sprintf("lost is what the slave has not received, at most %s at this moment", entries(s.Missing)),
			Commands: []string{"dkvctl -a " + s.Address + " -promote -force"},
		})
	}
	p.Ways = append(p.Ways, p.fromBackup())
	return p
}

// fromFolder is the way with the folder of one master.
func (p *Plan) fromFolder() Way {
	most := uint64(0)
	for _, n := range p.Nodes {
		if n.Voter && n.Answers {
			most = max(most, n.Missing)
		}
	}
	return Way{
		Text:     "only the folders of a minority of the masters are left: stop these masters, list what each folder has, and recover the one that has most by the command that this prints",
		Loss:     fmt.Sprintf("lost is what that master has not received, of those that answer at most %s at this moment", entries(most)),
		Commands: []string{"dkvsrv recover --config dkvsrv.yaml --db-folder FOLDER"},
	}
}

// bestSlave is the slave that lacks the least; nil without one that answers.
func (p *Plan) bestSlave() *Node {
	var best *Node
	for i := range p.Nodes {
		if n := &p.Nodes[i]; n.Slave && n.Answers && (best == nil || n.Missing < best.Missing) {
			best = n
		}
	}
	return best
}

// fromBackup is the way that is always left. A slave that is left may be newer than the last
// backup.
func (p *Plan) fromBackup() Way {
	w := Way{
		Text: "the folders are gone: form a new cluster of empty nodes, and restore the last backup",
		Loss: "lost is what was written after the backup; dkvctl -doctor says how old it is",
	}
	if s := p.bestSlave(); s != nil {
		w.Text = "the folders are gone: form a new cluster of empty nodes, and restore a backup of a slave that is left, or the last one"
		w.Loss = fmt.Sprintf("lost is what the slave has not received, at most %s at this moment, or what was written after the last backup", entries(s.Missing))
		w.Commands = append(w.Commands, "dkvctl -a "+s.Address+" -backup NAME")
	}
	w.Commands = append(w.Commands, "dkvctl -a NEW-NODE -restore NAME")
	return w
}

func entries(n uint64) string {
	if n == 1 {
		return "1 entry of the log"
	}
	return fmt.Sprintf("%d entries of the log", n)
}

// Lines are the plan for people.
func (p *Plan) Lines() []string {
	out := []string{fmt.Sprintf("%d masters have a vote, and %d of them are a majority. If so many were lost that fewer than %d are left, writes and linearizable reads would fail.",
		p.Voters, p.Majority, p.Majority)}
	for _, n := range slices.SortedStableFunc(slices.Values(p.Nodes), func(a, b Node) int { return cmp.Compare(a.Missing, b.Missing) }) {
		kind := "master without a vote"
		switch {
		case n.Slave:
			kind = "slave"
		case n.Voter:
			kind = "master"
		}
		if !n.Answers {
			out = append(out, fmt.Sprintf("  %s %s (%s) does not answer: what it has is not known", kind, n.Name, n.Address))
			continue
		}
		out = append(out, fmt.Sprintf("  %s %s (%s) lacks %s", kind, n.Name, n.Address, entries(n.Missing)))
	}
	for i, w := range p.Ways {
		out = append(out, fmt.Sprintf("%d. If %s: %s.", i+1, w.Text, w.Loss))
		for _, c := range w.Commands {
			out = append(out, "     "+c)
		}
	}
	return append(out, "This is a plan: nothing was changed.")
}
