package ctl

import (
	"cmp"
	"context"
	"errors"

	"github.com/dkvdb/dkv/internal/ctl/drill"
	"github.com/dkvdb/dkv/internal/ctl/survey"
)

// planForLostMajority prints what the loss of a majority would mean. It changes nothing.
func (s *session) planForLostMajority(ctx context.Context) error {
	rows, err := s.surveyAll(ctx)
	if err != nil {
		return err
	}
	plan := drill.LostMajority(drillNodes(rows))
	if plan.Voters == 0 {
		return errors.New("-a names no masters: only a cluster of masters has a majority to lose")
	}
	if s.out.JSON {
		return s.out.Value(plan)
	}
	for _, line := range plan.Lines() {
		if err := s.out.Line(line); err != nil {
			return err
		}
	}
	return nil
}

// drillNodes are the members and slaves of a cluster as drills know them.
func drillNodes(rows []survey.Row) []drill.Node {
	var out []drill.Node
	for _, r := range rows {
		if r.Role != "master" && r.Role != "slave" {
			continue
		}
		n := drill.Node{
			Name: cmp.Or(r.Name, r.ID, r.Address), Address: r.Address,
			Slave: r.Role == "slave", Voter: r.Role == "master" && !r.NonVoting,
			Answers: r.Health == survey.Alive, Applied: make(map[string]uint64), Committed: make(map[string]uint64),
		}
		for _, v := range r.VBuckets {
			if v.State != "" {
				n.Applied[v.Name], n.Committed[v.Name] = v.AppliedIndex, v.CommitIndex
			}
		}
		out = append(out, n)
	}
	return out
}
