package survey

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Versions are those of a cluster's nodes.
type Versions struct {
	Rows []Row
	// Cluster is the version in use, Target the newest that a node understands.
	Cluster, Target uint32
	// Behind are the nodes that do not understand the target, and Silent those that do not answer.
	Behind, Silent []string
}

// VersionsOf returns the versions in rows.
func VersionsOf(rows []Row) *Versions {
	u := &Versions{Rows: rows}
	for _, r := range rows {
		u.Target = max(u.Target, r.Understands)
		if r.ClusterVersion != 0 && (u.Cluster == 0 || r.ClusterVersion < u.Cluster) {
			u.Cluster = r.ClusterVersion
		}
	}
	for _, r := range rows {
		name := fmt.Sprintf("%s (%s)", cmp.Or(r.Name, r.ID, r.Role), r.Address)
		switch {
		case r.Understands == 0 && r.Health != Alive:
			u.Silent = append(u.Silent, name)
		case r.Understands < u.Target:
			u.Behind = append(u.Behind, name)
		}
	}
	return u
}

// Sentence says what there is to do.
func (u *Versions) Sentence() string {
	switch {
	case u.Cluster == 0 && slices.ContainsFunc(u.Rows, func(r Row) bool { return r.Role == "master" && r.Health == Alive }):
		return "the masters do not say which version they use: they are of an older release"
	case u.Cluster == 0:
		return "no member of a cluster has answered with a version: only nodes that keep a log together have one, masters or several nodes of the registry; " +
			"where a node keeps it alone there is no upgrade to finish. Name a master of the cluster by -a (dkvctl -clusterInfo lists those that a node knows)"
	case len(u.Behind) > 0 && u.Cluster >= u.Target:
		return fmt.Sprintf("there is no upgrade to finish; of an older release that does not say that it understands version %d: %s", u.Target, strings.Join(u.Behind, ", "))
	case len(u.Behind) > 0:
		return fmt.Sprintf("upgrade first what does not understand version %[2]d: %[1]s; until the upgrade is finished, nodes can be downgraded", strings.Join(u.Behind, ", "), u.Target)
	case len(u.Silent) > 0 && u.Cluster < u.Target:
		return fmt.Sprintf("it is not known what %s understand, which do not answer", strings.Join(u.Silent, ", "))
	case u.Cluster < u.Target:
		return fmt.Sprintf("all nodes understand version %d: dkvctl -upgrade finish takes it into use, and they cannot be downgraded then", u.Target)
	default:
		return "there is no upgrade to finish"
	}
}
