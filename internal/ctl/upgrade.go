package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
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

// versions are those of a cluster's nodes.
type versions struct {
	rows []nodeRow
	// cluster is the version in use, target the newest that a node understands.
	cluster, target uint32
	// behind are the nodes that do not understand the target, and those that do not answer.
	behind, silent []string
}

// surveyVersions asks the nodes of a cluster for their versions.
func (s *session) surveyVersions(ctx context.Context) (*versions, error) {
	rows, err := s.surveyAll(ctx)
	if err != nil {
		return nil, err
	}
	return versionsOf(rows), nil
}

// surveyAll asks the members and the slaves of a cluster for their status.
func (s *session) surveyAll(ctx context.Context) ([]nodeRow, error) {
	v := &survey{session: s}
	if err := v.take(ctx); err != nil {
		return nil, err
	}
	slaves, err := s.slaveAddresses(ctx)
	if err != nil {
		return nil, err
	}
	slaves = slices.DeleteFunc(slaves, func(addr string) bool {
		return slices.ContainsFunc(v.rows, func(r nodeRow) bool { return r.Address == addr })
	})
	return append(v.rows, eachAddress(s, slaves, func(one *session, addr string) nodeRow {
		row := one.nodeStatus(ctx, addr)
		row.Role = cmp.Or(row.Role, "slave")
		return row
	})...), nil
}

func versionsOf(rows []nodeRow) *versions {
	u := &versions{rows: rows}
	for _, r := range rows {
		u.target = max(u.target, r.Understands)
		if r.ClusterVersion != 0 && (u.cluster == 0 || r.ClusterVersion < u.cluster) {
			u.cluster = r.ClusterVersion
		}
	}
	for _, r := range rows {
		name := fmt.Sprintf("%s (%s)", cmp.Or(r.Name, r.ID, r.Role), r.Address)
		switch {
		case r.Understands == 0 && r.Health != alive:
			u.silent = append(u.silent, name)
		case r.Understands < u.target:
			u.behind = append(u.behind, name)
		}
	}
	return u
}

// sentence says what there is to do.
func (u *versions) sentence() string {
	switch {
	case u.cluster == 0 && slices.ContainsFunc(u.rows, func(r nodeRow) bool { return r.Role == "master" && r.Health == alive }):
		return "the masters do not say which version they use: they are of an older release"
	case u.cluster == 0:
		return "no member of a cluster has answered with a version: only nodes that keep a log together have one, masters or several nodes of the registry; " +
			"where a node keeps it alone there is no upgrade to finish. Name a master of the cluster by -a (dkvctl -clusterInfo lists those that a node knows)"
	case len(u.behind) > 0 && u.cluster >= u.target:
		return fmt.Sprintf("there is no upgrade to finish; of an older release that does not say that it understands version %d: %s", u.target, strings.Join(u.behind, ", "))
	case len(u.behind) > 0:
		return fmt.Sprintf("upgrade first what does not understand version %[2]d: %[1]s; until the upgrade is finished, nodes can be downgraded", strings.Join(u.behind, ", "), u.target)
	case len(u.silent) > 0 && u.cluster < u.target:
		return fmt.Sprintf("it is not known what %s understand, which do not answer", strings.Join(u.silent, ", "))
	case u.cluster < u.target:
		return fmt.Sprintf("all nodes understand version %d: dkvctl -upgrade finish takes it into use, and they cannot be downgraded then", u.target)
	default:
		return "there is no upgrade to finish"
	}
}

func (s *session) printVersions(u *versions) error {
	if s.out.JSON {
		return s.out.Value(struct {
			Cluster uint32    `json:"cluster_version"`
			Newest  uint32    `json:"newest"`
			Say     string    `json:"text"`
			Nodes   []nodeRow `json:"nodes"`
		}{u.cluster, u.target, u.sentence(), u.rows})
	}
	cells := make([][]string, len(u.rows))
	for i, r := range u.rows {
		understands := "understands=-"
		if r.Understands != 0 {
			understands = fmt.Sprintf("understands=%d", r.Understands)
		}
		cells[i] = []string{orDash(r.ID), r.Address, orDash(r.Role), r.Health, understands, "release=" + orDash(r.Version)}
	}
	if err := output.WriteColumns(s.out.W, cells); err != nil {
		return err
	}
	return s.out.Line(fmt.Sprintf("cluster-version %d; %s", u.cluster, u.sentence()))
}

// finishUpgrade takes the newest version into use. The members are checked by the owners of
// the logs; slaves, which take no part in these, here.
func (s *session) finishUpgrade(ctx context.Context) error {
	u, err := s.surveyVersions(ctx)
	if err != nil {
		return err
	}
	late := append(slices.Clone(u.behind), u.silent...)
	switch {
	case u.cluster == 0:
		return errors.New(u.sentence())
	case len(late) > 0 && !s.Force:
		return fmt.Errorf("the upgrade is not finished: %s (not applied); -force ignores slaves, and members that have said before that they understand it", u.sentence())
	}
	if err := s.change(ctx, admin.FinishUpgrade); err != nil {
		return err
	}
	return s.out.OK(0)
}
