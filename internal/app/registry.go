package app

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/discovery"
	"github.com/dkvdb/dkv/internal/discovery/announce"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/slave"
)

// The registry's rows are a keyspace of their own, whatever database this node was
// told of.
const registryDatabase, registryVBucket = "discovery", "registry"

// newRegistry makes the registry over the rows that this node keeps.
func (n *node) newRegistry() error {
	var err error
	n.registry, err = discovery.New(discovery.Options{
		Store:            n.vBuckets[0],
		Pool:             n.pool,
		StatusTTL:        n.cfg.Discovery.Server.StatusTTL,
		HeartbeatTimeout: n.cfg.Discovery.Server.HeartbeatTimeout,
		Limits:           discovery.Limits{Rows: n.cfg.Discovery.Server.MaxRows, Nodes: n.cfg.Discovery.Server.MaxNodes},
		Log:              n.log,
	})
	return err
}

// registryCache is the file in db-folder that keeps what the registry said last.
const registryCache = "registry.rows"

// joinRegistry makes what tells the registry of this node and what hears from it of
// the others.
func (n *node) joinRegistry() {
	client := &n.cfg.Discovery.Client
	isClient := n.cfg.Role == config.RoleMaster || n.cfg.Role == config.RoleSlave
	if !isClient || n.cfg.Discovery.Disabled {
		return
	}
	pool := peer.NewPool(peer.Options{MaxMessageSize: int(n.cfg.Limits.MessageSize)})
	n.onClose(pool.Close)
	n.announcer = announce.NewAnnouncer(announce.Options{
		Addresses: client.Addrs,
		Rows:      n.regions,
		Interval:  client.PushStatusInterval,
		Pool:      pool,
		Log:       n.log,
	})
	cache := ""
	if n.dir != nil {
		cache = filepath.Join(n.dir.Path(), registryCache)
	}
	n.directory = announce.OpenDirectory(announce.DirectoryOptions{
		Addresses:    client.Addrs,
		Filter:       &serverpb.GetClusterInfoRequest{Database: &n.cfg.Node.Database},
		PollInterval: client.PollClusterInfoInterval,
		CachePath:    cache,
		Pool:         pool,
		Log:          n.log,
	})
}

// heed passes on what the registry says to those who choose by it, until ctx ends.
func (n *node) heed(ctx context.Context) {
	for {
		changed := n.directory.Changed()
		if n.rows != nil {
			var rows []*serverpb.RegionInfo
			for _, r := range n.directory.Rows() {
				rows = append(rows, r.Info)
			}
			n.rows.Set(rows, n.directory.Live())
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// statusPoll is how often the node looks whether its rows have changed in a way
// that the registry should hear of at once.
const statusPoll = 100 * time.Millisecond

// tellChanges has a change of this node's part announced without waiting for the
// next heartbeat, until ctx ends.
func (n *node) tellChanges(ctx context.Context) {
	t := time.NewTicker(statusPoll)
	defer t.Stop()
	told := ""
	for {
		var now strings.Builder
		for _, v := range n.vBuckets {
			now.WriteByte('0' + byte(n.statusOf(v)))
		}
		if now.String() != told {
			told = now.String()
			n.announcer.Poke()
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// regions are this node's rows in the registry.
func (n *node) regions() []*serverpb.RegionInfo {
	urls := n.memberURLs()
	rows := make([]*serverpb.RegionInfo, len(n.vBuckets))
	for i, v := range n.vBuckets {
		rows[i] = n.region(v, urls)
	}
	return rows
}

// region is the row of a vBucket.
func (n *node) region(v vBucket, urls string) *serverpb.RegionInfo {
	s := v.Status()
	row := &serverpb.RegionInfo{
		DcID:         n.info.DC,
		NodeAddress:  n.info.Address,
		Database:     n.info.Database,
		VBucket:      v.name,
		Status:       n.statusOf(v),
		HttpAddress:  n.info.HTTPAddress,
		NodeName:     n.info.Name,
		NodeID:       n.info.ID,
		ClusterID:    s.Identity.Cluster,
		HistoryID:    s.Identity.History,
		Term:         s.Term,
		ChangeNumber: s.Applied,
		Slaves:       uint32(n.replication.Followers(v.name)),
		VBuckets:     uint32(len(n.vBuckets)),
	}
	if urls != "" {
		row.NexusClusterUrl = &urls
	}
	if row.ClusterID == "" && row.Status != serverpb.RegionStatus_ACTIVE_SLAVE {
		row.Status = serverpb.RegionStatus_INACTIVE // whose it is, its log is yet to say
	}
	if f, ok := v.hosted.(*followed); ok {
		// Not while it tries one after the other: each would be news to write down.
		if p := f.puller.Status(); p.Phase == slave.Following {
			row.MasterHost = &p.Master
		}
	}
	return row
}

// caughtUpWithin is how lately a replica's state must have been confirmed to be the
// newest for it to count as caught up, and for a leader to count as one: one that is cut
// off does not know that another leads. Replicas ask about once a second, and less often
// the more there are.
func (n *node) caughtUpWithin() time.Duration {
	const missed = 3 // questions
	return missed * max(time.Second, time.Duration(len(n.vBuckets))*freshEach)
}

// statusOf is this node's part in a vBucket as it stands now.
func (n *node) statusOf(v vBucket) serverpb.RegionStatus {
	if !n.opened.Load() || !n.grpc.Serving() || !v.Readable() {
		return serverpb.RegionStatus_INACTIVE
	}
	switch r := v.hosted.(type) {
	case *followed:
		if r.puller.Healthy() == nil {
			return serverpb.RegionStatus_ACTIVE_SLAVE
		}
	default:
		switch s := v.State(); {
		case s != replica.Serving && s != replica.Restoring, v.Age() > n.caughtUpWithin():
		case v.Owner().Self && ownsEpoch(v):
			return serverpb.RegionStatus_LEADER
		default:
			return serverpb.RegionStatus_SECONDARY_FOLLOWER
		}
	}
	return serverpb.RegionStatus_INACTIVE
}

// ownsEpoch reports whether a leader has an epoch to serve in: until then it waits for
// the lease of the one before.
func ownsEpoch(v vBucket) bool {
	r, ok := v.hosted.(*replica.Raft)
	if !ok {
		return true // a log of one
	}
	stats := r.RaftStats()
	return stats.Epoch != 0 && stats.Term == v.Status().Term
}

// memberURLs are the Raft addresses of the cluster's members, with commas between;
// empty on a node without a Raft log.
func (n *node) memberURLs() string {
	if n.cluster == nil {
		return ""
	}
	return strings.Join(n.cluster.URLs(), ",")
}

// regionService tells what this node serves.
type regionService struct {
	serverpb.UnimplementedDKVDiscoveryNodeServer
	node *node
}

// GetStatus implements DKVDiscoveryNode. Of several vBuckets it tells of the first.
func (s regionService) GetStatus(context.Context, *emptypb.Empty) (*serverpb.RegionInfo, error) {
	return s.node.region(s.node.vBuckets[0], s.node.memberURLs()), nil
}
