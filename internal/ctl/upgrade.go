package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/ctl/survey"
)

// runUpgrade shows which version of the cluster is in use and what its nodes understand, or
// takes the newest version into use.
func runUpgrade(ctx context.Context, s *session, args []string) error {
	action := "status"
	if len(args) == 1 {
		action = args[0]
	}
	switch action {
	case "status":
		u, err := s.surveyVersions(ctx)
		if err != nil {
			return err
		}
		return s.printVersions(u)
	case "finish":
		return s.finishUpgrade(ctx)
	default:
		return options.Usagef("-upgrade: %q is neither status nor finish", action)
	}
}

// surveyVersions asks the nodes of a cluster for their versions.
func (s *session) surveyVersions(ctx context.Context) (*survey.Versions, error) {
	rows, err := s.surveyAll(ctx)
	if err != nil {
		return nil, err
	}
	return survey.VersionsOf(rows), nil
}

// surveyAll asks the members and the slaves of a cluster for their status.
func (s *session) surveyAll(ctx context.Context) ([]survey.Row, error) {
	v, err := survey.Take(ctx, s.Client)
	if err != nil {
		return nil, err
	}
	slaves, err := s.slaveAddresses(ctx)
	if err != nil {
		return nil, err
	}
	slaves = slices.DeleteFunc(slaves, func(addr string) bool {
		return slices.ContainsFunc(v.Rows, func(r survey.Row) bool { return r.Address == addr })
	})
	return append(v.Rows, nodes.Each(s.Client, slaves, func(one *nodes.Client, addr string) survey.Row {
		row := survey.Ask(ctx, one, addr)
		row.Role = cmp.Or(row.Role, "slave")
		return row
	})...), nil
}

func (s *session) printVersions(u *survey.Versions) error {
	if s.out.JSON {
		return s.out.Value(struct {
			Cluster uint32       `json:"cluster_version"`
			Newest  uint32       `json:"newest"`
			Say     string       `json:"text"`
			Nodes   []survey.Row `json:"nodes"`
		}{u.Cluster, u.Target, u.Sentence(), u.Rows})
	}
	cells := make([][]string, len(u.Rows))
	for i, r := range u.Rows {
		understands := "understands=-"
		if r.Understands != 0 {
			understands = fmt.Sprintf("understands=%d", r.Understands)
		}
		cells[i] = []string{output.OrDash(r.ID), r.Address, output.OrDash(r.Role), r.Health, understands, "release=" + output.OrDash(r.Version)}
	}
	if err := output.WriteColumns(s.out.W, cells); err != nil {
		return err
	}
	return s.out.Line(fmt.Sprintf("cluster-version %d; %s", u.Cluster, u.Sentence()))
}

// finishUpgrade takes the newest version into use. The members are checked by the owners of
// the logs; slaves, which take no part in these, here.
func (s *session) finishUpgrade(ctx context.Context) error {
	u, err := s.surveyVersions(ctx)
	if err != nil {
		return err
	}
	late := append(slices.Clone(u.Behind), u.Silent...)
	switch {
	case u.Cluster == 0:
		return errors.New(u.Sentence())
	case len(late) > 0 && !s.Force:
		return fmt.Errorf("the upgrade is not finished: %s (not applied); -force ignores slaves, and members that have said before that they understand it", u.Sentence())
	}
	if err := s.change(ctx, admin.FinishUpgrade); err != nil {
		return err
	}
	return s.out.OK(0)
}
