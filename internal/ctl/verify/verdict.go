package verify

import (
	"fmt"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/output"
)

// Content is the hash of a node's keyspace at an index.
type Content struct {
	VBucket string `json:"vbucket"`
	Address string `json:"address"`
	Index   uint64 `json:"index"`
	Keys    uint64 `json:"keys"`
	Hash    string `json:"hash"`
	History string `json:"history_id"`
}

// Verdict is the result of -verify for one vBucket.
type Verdict struct {
	VBucket string    `json:"vbucket"`
	Verdict string    `json:"verdict"` // equal, different or not comparable
	Differs []string  `json:"differs,omitempty"`
	Behind  []string  `json:"behind,omitempty"` // nodes that made no progress, if not comparable
	Nodes   []Content `json:"nodes"`
}

const (
	equalContent     = "equal"
	differentContent = "different"
	notComparable    = "not comparable"
)

// behind returns the nodes that stayed at one index in all tries, below that of another
// node: pausing writes would not make them equal.
func behind(seen []map[uint64]Content, last []Content) []string {
	var newest uint64
	for _, c := range last {
		newest = max(newest, c.Index)
	}
	var out []string
	for i, c := range last {
		if len(seen[i]) == 1 && c.Index < newest {
			out = append(out, c.Address)
		}
	}
	return out
}

// sameIndex returns all nodes' contents at the greatest index that each of them has
// hashed, or nil.
func sameIndex(seen []map[uint64]Content) []Content {
	var best []Content
	for index := range seen[0] {
		if best != nil && best[0].Index > index {
			continue
		}
		var row []Content
		for _, node := range seen {
			if c, ok := node[index]; ok {
				row = append(row, c)
			}
		}
		if len(row) == len(seen) {
			best = row
		}
	}
	return best
}

// judge compares contents at one index. The content that most nodes have, or the first
// of several, is taken as the right one.
func judge(vBucket string, contents []Content) *Verdict {
	v := &Verdict{VBucket: vBucket, Verdict: equalContent, Nodes: contents}
	votes := make(map[string]int)
	for _, c := range contents {
		votes[c.History+c.Hash]++
	}
	right := contents[0]
	for _, c := range contents {
		if votes[c.History+c.Hash] > votes[right.History+right.Hash] {
			right = c
		}
	}
	for _, c := range contents {
		if c.Hash != right.Hash || c.History != right.History {
			v.Differs = append(v.Differs, c.Address)
		}
	}
	if len(v.Differs) > 0 {
		v.Verdict = differentContent
	}
	return v
}

// Sentence says how the nodes compare, and what there is to do if they cannot be compared.
func (v *Verdict) Sentence() string {
	switch v.Verdict {
	case equalContent:
		if len(v.Nodes) == 1 {
			return "equal: one node, nothing to compare it with"
		}
		return fmt.Sprintf("equal: %d nodes at index %d", len(v.Nodes), v.Nodes[0].Index)
	case differentContent:
		return "different at the same index: " + strings.Join(v.Differs, ", ")
	}
	var indexes []string
	for _, c := range v.Nodes {
		indexes = append(indexes, fmt.Sprint(c.Index))
	}
	if len(v.Behind) > 0 {
		return fmt.Sprintf("not comparable: the nodes were never at the same index (last %s), and %s made no progress; -status shows why",
			strings.Join(indexes, ", "), strings.Join(v.Behind, ", "))
	}
	for _, c := range v.Nodes {
		if c.History != v.Nodes[0].History {
			return fmt.Sprintf("not comparable: %s and %s hold different histories, as after a restore", v.Nodes[0].Address, c.Address)
		}
	}
	return fmt.Sprintf("not comparable: writes continue; pause them with -pauseWrites (the nodes were never at the same index, last %s)",
		strings.Join(indexes, ", "))
}

// Equal reports whether all nodes hold the same content.
func (v *Verdict) Equal() bool { return v.Verdict == equalContent }

// Print prints the hashes of all nodes and the sentence about them, or a JSON document.
func (v *Verdict) Print(out *output.Printer) error {
	if out.JSON {
		return out.Value(v)
	}
	rows := make([][]string, len(v.Nodes))
	for i, c := range v.Nodes {
		rows[i] = []string{c.VBucket, c.Address, fmt.Sprintf("index=%d", c.Index), fmt.Sprintf("keys=%d", c.Keys), "hash=" + c.Hash}
	}
	if err := output.WriteColumns(out.W, rows); err != nil {
		return err
	}
	return out.Line(v.Sentence())
}
