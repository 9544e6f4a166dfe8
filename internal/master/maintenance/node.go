package maintenance

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/task"
	"github.com/dkvdb/dkv/internal/timing"
)

// NodeInfo describes a node.
type NodeInfo struct {
	// ID is the node's id in its cluster, in decimal, and Cluster the cluster's id.
	ID, Cluster          string
	Name, Version        string
	Role, Engine         string
	DC, Database         string
	Address, HTTPAddress string
	Started              time.Time
	// SharesCache reports whether the engines of all vBuckets use one cache.
	SharesCache bool
	// Became says in a sentence what a promotion has made of the node; empty for nothing.
	Became string
	// Timing is the Raft timing that the process runs with; empty without Raft.
	Timing string
}

// Node serves requests about the node as a whole: its status, pausing writes, the clock, content
// hashes, and the membership of a node that has no cluster.
type Node struct {
	serverpb.UnimplementedDKVNodeServer
	serverpb.UnimplementedDKVClusterServer
	keyspace *route.Keyspace
	info     NodeInfo
	router   *route.Router
	// standing returns the slaves that answers of a vBucket wait for; nil on a node whose
	// answers wait for none.
	standing func(vBucket string) *serverpb.StandingSet
	// record says what the record in the registry means for the node; nil if it uses none.
	record func() string
	// refusal says why the owner of a vBucket's log answers no mutation; nil says nothing.
	refusal func(vBucket string) string
	// warning says what is wrong with the node although it serves; nil says nothing.
	warning func() error
	// silent says whether the registry does not answer the node; nil if it needs no answers.
	silent func() bool
	// setLevel changes the levels of the node's log; nil if they are fixed.
	setLevel func(*serverpb.SetLogLevelRequest) (*serverpb.LogLevels, error)
	tasks    *task.List
	held     held
	// hashing holds an element while a content hash is being made, and hashes one for each
	// request for one.
	hashing, hashes chan struct{}
}

// maxHashes is how many content hashes may be requested at once. All but one of them wait,
// because each reads the whole state.
const maxHashes = 8

// New makes the service. A nil router forwards nothing; see master.NewKV.
func New(k *route.Keyspace, info NodeInfo, r *route.Router) *Node {
	return &Node{keyspace: k, info: info, router: r, hashing: make(chan struct{}, 1), hashes: make(chan struct{}, maxHashes)}
}

// ShowStanding has the status show the slaves that answers wait for.
func (n *Node) ShowStanding(of func(vBucket string) *serverpb.StandingSet) { n.standing = of }

// ShowRecord has the status show what the record in the registry means for the node.
func (n *Node) ShowRecord(of func() string) { n.record = of }

// ShowSilence has the status show whether the registry does not answer the node.
func (n *Node) ShowSilence(is func() bool) { n.silent = is }

// ShowWarning has the status show what is wrong with the node although it serves; nil for nothing.
func (n *Node) ShowWarning(of func() error) { n.warning = of }

// ShowRefusal has the status show why the owner of a vBucket's log answers no mutation, although the
// log accepts them.
func (n *Node) ShowRefusal(of func(vBucket string) string) { n.refusal = of }

// ShowTasks has the status show these tasks, and those of this service among them.
func (n *Node) ShowTasks(tasks *task.List) { n.tasks = tasks }

// ServeLogLevel has SetLogLevel do what by does.
func (n *Node) ServeLogLevel(by func(*serverpb.SetLogLevelRequest) (*serverpb.LogLevels, error)) {
	n.setLevel = by
}

// SetLogLevel implements DKVNode.
func (n *Node) SetLogLevel(_ context.Context, r *serverpb.SetLogLevelRequest) (*serverpb.LogLevels, error) {
	if n.setLevel == nil {
		return nil, kv.Errorf(kv.Unimplemented, "the level of this node's log cannot be changed")
	}
	return n.setLevel(r)
}

// GetNodeStatus implements DKVNode.
func (n *Node) GetNodeStatus(context.Context, *emptypb.Empty) (*serverpb.NodeStatusResponse, error) {
	resp := &serverpb.NodeStatusResponse{
		NodeId:      n.info.ID,
		ClusterId:   n.info.Cluster,
		NodeName:    n.info.Name,
		Version:     n.info.Version,
		Role:        n.info.Role,
		Engine:      n.info.Engine,
		Database:    n.info.Database,
		Address:     n.info.Address,
		HttpAddress: n.info.HTTPAddress,
		Became:      n.info.Became,
		Uptime:      uint64(time.Since(n.info.Started).Seconds()),
	}
	if n.record != nil {
		resp.Record = n.record()
	}
	resp.RegistrySilent = n.silent != nil && n.silent()
	n.addTiming(resp)
	resp.ClusterVersion, resp.Understands = n.Versions()
	for _, v := range n.keyspace.All() {
		s := v.Status()
		status := n.vBucketStatus(s)
		if n.standing != nil && status.GetIsLeader() {
			status.Standing = n.standing(v.Name)
		}
		if n.refusal != nil && status.GetIsLeader() && status.GetReason() == "" {
			status.Reason = n.refusal(v.Name)
		}
		resp.VBuckets = append(resp.VBuckets, status)
	}
	if n.warning != nil {
		if err := n.warning(); err != nil {
			resp.Warning = err.Error()
		}
	}
	resp.MemtableBytes, resp.CacheBytes = n.held.of(n.keyspace, n.info.SharesCache)
	for _, t := range n.tasks.Running() {
		resp.Tasks = append(resp.Tasks, taskOf(t))
	}
	return resp, nil
}

func taskOf(t task.State) *serverpb.Task {
	return &serverpb.Task{
		Kind: t.Kind, Subject: t.Subject, Step: t.Step, Part: uint32(t.Part), Parts: uint32(t.Parts),
		Done: t.Done, Total: t.Total, Unit: t.Unit,
		Millis: uint64(t.Elapsed.Milliseconds()), StepMillis: uint64(t.InStep.Milliseconds()),
	}
}

// held is what the engines hold in memory, in bytes. A status is asked for each second by
// each member, and for each vBucket of a slave, and engines take their time to say that.
type held struct {
	mu               sync.Mutex
	asked            time.Time
	memtables, cache uint64
}

// heldInterval is how old the figures of a status may be.
const heldInterval = 5 * time.Second

// of returns the figures of all vBuckets. Engines that share a cache report all of it each.
func (h *held) of(k *route.Keyspace, sharesCache bool) (memtables, cache uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked.IsZero() && time.Since(h.asked) < heldInterval {
		return h.memtables, h.cache
	}
	h.asked, h.memtables, h.cache = time.Now(), 0, 0
	var rows uint64 // in the one row cache
	for _, v := range k.All() {
		u := v.Usage()
		h.memtables += u.Storage.MemtableBytes
		rows = max(rows, u.Storage.RowCacheBytes)
		if sharesCache {
			h.cache = max(h.cache, u.Storage.CacheBytes)
		} else {
			h.cache += u.Storage.CacheBytes
		}
	}
	h.cache += rows
	return h.memtables, h.cache
}

// timed is a replica whose log several nodes keep. The log of the first vBucket keeps the
// timing of all.
type timed interface {
	TimingSetting() timing.Setting
	SetTiming(ctx context.Context, to timing.Timing) error
}

// addTiming adds the Raft timing to a status.
func (n *Node) addTiming(resp *serverpb.NodeStatusResponse) {
	resp.Timing = n.info.Timing
	if raft, is := n.keyspace.All()[0].Replica.(timed); is {
		s := raft.TimingSetting()
		resp.ClusterTiming, resp.NextTiming = s.Current.Text(), s.Next.Text()
	}
}

func (n *Node) vBucketStatus(s replica.Status) *serverpb.VBucketStatus {
	out := &serverpb.VBucketStatus{
		VBucket:           s.VBucket,
		Mode:              string(s.Mode),
		State:             string(s.State),
		IsLeader:          s.IsLeader,
		Term:              s.Term,
		CommitIndex:       s.Commit,
		AppliedIndex:      s.Applied,
		WritesPaused:      s.Paused,
		HistoryId:         s.Identity.History,
		FirstChangeNumber: s.ChangelogFloor,
		Reason:            s.ReadOnly,
		LagChanges:        s.Lag,
		LagMillis:         uint64(s.Age.Milliseconds()),
		ClockMillis:       uint64(max(s.Clock.UnixMilli(), 0)),
		ClusterId:         s.Identity.Cluster,
		SnapshotBytes:     s.Snapshot.Bytes,
		SnapshotSize:      s.Snapshot.Size,
	}
	if s.Stale != nil {
		out.Unhealthy = s.Stale.Error()
	}
	out.Leader = s.Owner.Address
	if s.IsLeader {
		out.Leader = n.info.Address
	}
	return out
}

// GetContentHash implements DKVNode.
func (n *Node) GetContentHash(ctx context.Context, r *serverpb.ContentHashRequest) (*serverpb.ContentHashResponse, error) {
	v, err := n.keyspace.Named(r.GetVBucket())
	if err != nil {
		return nil, err
	}
	ctx, end := n.tasks.Begin(ctx, task.Verify, r.GetVBucket())
	defer end()
	task.Step(ctx, "waits for another one", "", 0)
	done, err := n.takeTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	view, _, err := v.View(ctx, kv.ReadOptions{})
	if err != nil {
		return nil, err
	}
	defer view.Close()
	hash, err := view.Hash(ctx)
	if err != nil {
		return nil, replica.ReadError(err)
	}
	return &serverpb.ContentHashResponse{
		Index:     hash.Index,
		Hash:      hash.Sum[:],
		Keys:      hash.Keys,
		HistoryId: view.Identity().History,
	}, nil
}

// takeTurn waits until no other content hash is being made. done lets the next one begin.
func (n *Node) takeTurn(ctx context.Context) (done func(), err error) {
	select {
	case n.hashes <- struct{}{}:
	default:
		return nil, kv.Errorf(kv.Exhausted, "%d content hashes are requested already, which is the limit; retry when they are done", maxHashes)
	}
	select {
	case n.hashing <- struct{}{}:
		return func() { <-n.hashing; <-n.hashes }, nil
	case <-ctx.Done():
		<-n.hashes
		return nil, kv.Errorf(kv.Unavailable, "another content hash is being made: %w", ctx.Err())
	}
}

// noCluster is the error for a change of the cluster on a node that belongs to none.
func (n *Node) noCluster() error {
	if !n.router.HasCopies() {
		return kv.Errorf(kv.Precondition, "this node is %s and has no cluster to change; start masters with --role master (not applied)", n.standalone())
	}
	for _, v := range n.keyspace.All() {
		if at := v.Owner().Address; at != "" {
			return kv.Errorf(kv.Precondition, "this node is a slave and changes no cluster; ask the leader at %s (not applied)", at)
		}
	}
	return kv.Errorf(kv.Precondition, "this node is a slave and changes no cluster; ask a master (not applied)")
}

// standalone describes a node without a cluster in an error.
func (n *Node) standalone() string {
	if n.info.Role == roleDiscovery {
		return "a registry of one"
	}
	return "standalone"
}

// roleDiscovery is the role of a node of the registry, in NodeInfo.
const roleDiscovery = "discovery"

// AddNode implements DKVCluster.
func (n *Node) AddNode(context.Context, *serverpb.AddNodeRequest) (*serverpb.Status, error) {
	return nil, n.noCluster()
}

// RemoveNode implements DKVCluster.
func (n *Node) RemoveNode(context.Context, *serverpb.RemoveNodeRequest) (*serverpb.Status, error) {
	return nil, n.noCluster()
}

// TransferLeader implements DKVCluster.
func (n *Node) TransferLeader(context.Context, *serverpb.TransferLeaderRequest) (*serverpb.Status, error) {
	return nil, n.noCluster()
}

// StepDown implements DKVCluster.
func (n *Node) StepDown(context.Context, *emptypb.Empty) (*serverpb.Status, error) {
	return nil, n.noCluster()
}

// Snapshot implements DKVCluster.
func (n *Node) Snapshot(context.Context, *serverpb.SnapshotRequest) (*serverpb.Status, error) {
	return nil, n.noCluster()
}

// StandaloneID is the node id of a standalone node.
const StandaloneID = "1"

// ListNodes implements DKVCluster. A standalone node is a cluster of itself. A slave is a member
// of no cluster, and lists itself as a slave.
func (n *Node) ListNodes(context.Context, *emptypb.Empty) (*serverpb.ListNodesResponse, error) {
	const id = 1
	// NodeUrl is a gRPC address here, as in the earlier system: the node speaks no Raft.
	self := &modelspb.NodeInfo{NodeUrl: "http://" + n.info.Address, NodeId: id, Status: modelspb.NodeInfo_LEADER,
		Address: n.info.Address, HttpAddress: n.info.HTTPAddress, NodeName: n.info.Name, DcID: n.info.DC}
	list := &serverpb.ListNodesResponse{Status: &serverpb.Status{}, Leader: id, Nodes: map[uint64]*modelspb.NodeInfo{id: self}}
	if n.router.HasCopies() {
		list.Leader, self.Status, self.NonVoting = 0, modelspb.NodeInfo_SLAVE, true
	}
	return list, nil
}
