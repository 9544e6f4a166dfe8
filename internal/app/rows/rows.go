// Package rows is a node's part in the registry: it announces what the node serves, a row
// for each vBucket, and passes on what the registry says of the other nodes.
package rows

import (
	"context"
	"strings"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/master/maintenance"
)

// Source is what rows are made from.
type Source struct {
	Info *maintenance.NodeInfo
	// Condition judges the node.
	Condition func() condition.Node
	// Followers counts the slaves that have asked this node for changes of a vBucket.
	Followers func(vBucket string) int
	// URLs are the Raft addresses of the cluster's members; none if there is no cluster.
	URLs func() []string
}

// Rows returns the rows of all vBuckets.
func (s *Source) Rows() []*serverpb.RegionInfo {
	n, urls := s.Condition(), strings.Join(s.URLs(), ",")
	rows := make([]*serverpb.RegionInfo, len(n.VBuckets))
	for i := range n.VBuckets {
		rows[i] = s.row(&n, i, urls)
	}
	return rows
}

// row is the row of a vBucket, by its position.
func (s *Source) row(n *condition.Node, i int, urls string) *serverpb.RegionInfo {
	v := &n.VBuckets[i]
	row := &serverpb.RegionInfo{
		DcID:         s.Info.DC,
		NodeAddress:  s.Info.Address,
		Database:     s.Info.Database,
		VBucket:      v.Name,
		Status:       n.Part(i),
		HttpAddress:  s.Info.HTTPAddress,
		NodeName:     s.Info.Name,
		NodeID:       s.Info.ID,
		ClusterID:    v.Replica.Identity.Cluster,
		HistoryID:    v.Replica.Identity.History,
		Term:         v.Replica.Term,
		ChangeNumber: v.Replica.Applied,
		Slaves:       uint32(s.Followers(v.Name)),
		VBuckets:     uint32(len(n.VBuckets)),
	}
	if urls != "" {
		row.NexusClusterUrl = &urls
	}
	if v.Master != "" {
		row.MasterHost = &v.Master
	}
	return row
}

// Service answers DKVDiscoveryNode with the node's row.
type Service struct {
	serverpb.UnimplementedDKVDiscoveryNodeServer
	Source *Source
}

// GetStatus implements DKVDiscoveryNode. Of several vBuckets it returns the first.
func (s Service) GetStatus(context.Context, *emptypb.Empty) (*serverpb.RegionInfo, error) {
	n := s.Source.Condition()
	return s.Source.row(&n, 0, strings.Join(s.Source.URLs(), ",")), nil
}
