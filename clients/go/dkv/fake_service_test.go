package dkv

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// explained is an error as a server returns it, with its reason.
func explained(code codes.Code, reason, format string, args ...any) error {
	st, err := status.New(code, fmt.Sprintf(format, args...)).WithDetails(&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: reason})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// stalled is the error of a stream that a node's server has ended because its reader read nothing.
func stalled(at kv.Resume) error {
	st, err := status.New(codes.Aborted, "nothing of the stream was taken").WithDetails(
		&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonStalled, Metadata: at})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// errRemoved is the error of a node that was removed.
func errRemoved() error {
	st, err := status.New(codes.FailedPrecondition, kv.ErrRemoved.Error()).WithDetails(
		&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonNotApplied}, &errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonRemoved})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// idOf is the id of a vBucket's state.
func (c *cluster) idOf(b *fakeBucket) string {
	if c.id == "" {
		return "" // a node of an earlier release
	}
	return c.id + "-" + b.name
}

// checkCluster refuses a request for another cluster.
func (c *cluster) checkCluster(tag uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tag == 0 || slices.ContainsFunc(c.vBuckets, func(b *fakeBucket) bool { return xxhash.Sum64String(c.idOf(b)) == tag }) {
		return nil
	}
	return explained(codes.FailedPrecondition, kv.ReasonOtherCluster, "this node is of cluster %s", c.id)
}

// apply makes a change as the leader, once for each request id.
func apply[R any](n *fakeNode, key []byte, id *serverpb.RequestID, change func(b *fakeBucket) (R, error)) (R, error) {
	var none R
	c := n.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.of(key)
	switch {
	case len(key) == 0:
		return none, explained(codes.InvalidArgument, kv.ReasonNotApplied, "key is empty")
	case n.removed:
		return none, errRemoved()
	case n.slave:
		return none, explained(codes.FailedPrecondition, kv.ReasonNotApplied, "this node is a slave")
	case b.leader != n:
		return none, explained(codes.Unavailable, kv.ReasonNotOwner, "this node does not own vBucket %s", b.name)
	}
	at := requestKey{id.GetClientId(), id.GetSequence()}
	if known, is := b.results[at]; is && id != nil {
		return known.(R), nil
	}
	out, err := change(b)
	if err == nil && id != nil {
		b.results[at] = out
	}
	return out, err
}

func put(p *serverpb.PutRequest) *serverpb.TrxnRecord {
	return &serverpb.TrxnRecord{Type: serverpb.TrxnRecord_Put, Key: p.Key, Value: p.Value, ExpireTS: p.ExpireTS}
}

func (n *fakeNode) Put(_ context.Context, r *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	return apply(n, r.Key, r.RequestId, func(b *fakeBucket) (*serverpb.PutResponse, error) {
		if len(r.Value) > 1<<20 {
			return nil, explained(codes.InvalidArgument, kv.ReasonNotApplied, "the value is too long")
		}
		return &serverpb.PutResponse{Index: n.cluster.add(b, put(r)), History: "h", Acked: r.Ack}, nil
	})
}

func (n *fakeNode) MultiPut(_ context.Context, r *serverpb.MultiPutRequest) (*serverpb.PutResponse, error) {
	n.asked.Store(r.Ack)
	return apply(n, r.PutRequest[0].Key, r.RequestId, func(b *fakeBucket) (*serverpb.PutResponse, error) {
		var trxns []*serverpb.TrxnRecord
		for _, p := range r.PutRequest {
			if n.cluster.of(p.Key) != b {
				return nil, explained(codes.InvalidArgument, kv.ReasonNotApplied, "the keys are in different vBuckets")
			}
			trxns = append(trxns, put(p))
		}
		return &serverpb.PutResponse{Index: n.cluster.add(b, trxns...)}, nil
	})
}

func (n *fakeNode) Delete(_ context.Context, r *serverpb.DeleteRequest) (*serverpb.DeleteResponse, error) {
	n.asked.Store(r.Ack)
	return apply(n, r.Key, r.RequestId, func(b *fakeBucket) (*serverpb.DeleteResponse, error) {
		return &serverpb.DeleteResponse{Index: n.cluster.add(b, &serverpb.TrxnRecord{Type: serverpb.TrxnRecord_Delete, Key: r.Key})}, nil
	})
}

func (n *fakeNode) CompareAndSet(_ context.Context, r *serverpb.CompareAndSetRequest) (*serverpb.CompareAndSetResponse, error) {
	return apply(n, r.Key, r.RequestId, func(b *fakeBucket) (*serverpb.CompareAndSetResponse, error) {
		if !bytes.Equal(b.pairs[string(r.Key)].GetValue(), r.OldValue) {
			return &serverpb.CompareAndSetResponse{Index: b.index()}, nil
		}
		index := n.cluster.add(b, &serverpb.TrxnRecord{Type: serverpb.TrxnRecord_Put, Key: r.Key, Value: r.NewValue, ExpireTS: r.ExpireTS})
		return &serverpb.CompareAndSetResponse{Updated: true, Index: index}, nil
	})
}

func (n *fakeNode) Increment(_ context.Context, r *serverpb.IncrementRequest) (*serverpb.IncrementResponse, error) {
	return apply(n, r.Key, r.RequestId, func(b *fakeBucket) (*serverpb.IncrementResponse, error) {
		value := int64(0)
		switch held := b.pairs[string(r.Key)].GetValue(); len(held) {
		case 0:
		case 8:
			value = int64(binary.BigEndian.Uint64(held))
		default:
			return nil, explained(codes.FailedPrecondition, kv.ReasonNotApplied, "the key does not hold a counter")
		}
		value += r.Delta
		index := n.cluster.add(b, &serverpb.TrxnRecord{Type: serverpb.TrxnRecord_Put, Key: r.Key,
			Value: binary.BigEndian.AppendUint64(nil, uint64(value)), ExpireTS: r.ExpireTS})
		return &serverpb.IncrementResponse{Value: value, Index: index}, nil
	})
}

// mayRead reports whether the node answers a read at this level.
func (n *fakeNode) mayRead(b *fakeBucket, level serverpb.ReadConsistency) error {
	if n.removed {
		return errRemoved()
	}
	if level == serverpb.ReadConsistency_LINEARIZABLE && b.leader != n {
		return explained(codes.Unavailable, kv.ReasonNotOwner, "this node does not own vBucket %s", b.name)
	}
	return nil
}

func (n *fakeNode) Get(_ context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	b := n.cluster.of(r.Key)
	if err := n.mayRead(b, r.ReadConsistency); err != nil {
		return nil, err
	}
	p, found := b.pairs[string(r.Key)]
	return &serverpb.GetResponse{Value: p.GetValue(), Found: found, ExpireTS: p.GetExpireTS(), Index: b.index(), Age: 5}, nil
}

func (n *fakeNode) MultiGet(_ context.Context, r *serverpb.MultiGetRequest) (*serverpb.MultiGetResponse, error) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	out := &serverpb.MultiGetResponse{}
	for _, key := range r.Keys {
		b := n.cluster.of(key)
		if b != n.cluster.of(r.Keys[0]) {
			return nil, explained(codes.InvalidArgument, kv.ReasonNotApplied, "the keys were not split")
		}
		if err := n.mayRead(b, r.ReadConsistency); err != nil {
			return nil, err
		}
		if p := b.pairs[string(key)]; p != nil {
			out.KeyValues = append(out.KeyValues, p)
		}
	}
	return out, nil
}

func (n *fakeNode) Iterate(r *serverpb.IterateRequest, s grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	if err := n.cluster.checkCluster(r.Cluster); err != nil {
		return err
	}
	n.mu.Lock()
	before, stallAt := n.before, n.stallAt
	n.mu.Unlock()
	if before != nil {
		if err := before(s.Context(), serverpb.DKV_Iterate_FullMethodName); err != nil {
			return err
		}
	}
	n.cluster.mu.Lock()
	if n.removed {
		n.cluster.mu.Unlock()
		return errRemoved()
	}
	var pairs []*serverpb.KVPair
	for _, b := range n.cluster.vBuckets {
		for key, p := range b.pairs {
			if bytes.HasPrefix([]byte(key), r.KeyPrefix) && key >= string(r.StartKey) {
				pairs = append(pairs, p)
			}
		}
	}
	n.cluster.mu.Unlock()
	slices.SortFunc(pairs, func(a, b *serverpb.KVPair) int { return bytes.Compare(a.Key, b.Key) })
	if r.Reverse {
		slices.Reverse(pairs)
	}
	for i, p := range pairs {
		if r.Limit > 0 && uint64(i) == r.Limit {
			return nil
		}
		if stallAt != "" && string(p.Key) == stallAt {
			return stalled(kv.Resume{kv.ResumeStartKey: base64.StdEncoding.EncodeToString(p.Key)})
		}
		resp := &serverpb.IterateResponse{Pairs: []*serverpb.KVPair{p}}
		if i%2 == 1 { // as a server that knows no batches
			resp = &serverpb.IterateResponse{Key: p.Key, Value: p.Value, ExpireTS: p.ExpireTS}
		}
		if err := s.Send(resp); err != nil {
			return err
		}
	}
	return nil
}

func (n *fakeNode) GetNodeStatus(context.Context, *emptypb.Empty) (*serverpb.NodeStatusResponse, error) {
	c := n.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &serverpb.NodeStatusResponse{Address: n.addr, NodeId: n.addr, Role: "master", Database: "db"}
	if n.slave {
		out.Role = roleSlave
	}
	for _, b := range c.vBuckets {
		v := &serverpb.VBucketStatus{VBucket: b.name, State: "serving", Term: b.term, AppliedIndex: b.index(), HistoryId: cmp.Or(n.own, c.history), IsLeader: b.leader == n, ClusterId: c.idOf(b)}
		if b.leader != nil {
			v.Leader = b.leader.addr
		}
		if n.removed {
			v.State, v.Leader = "removed", ""
		}
		out.VBuckets = append(out.VBuckets, v)
	}
	return out, nil
}

func (n *fakeNode) ListNodes(context.Context, *emptypb.Empty) (*serverpb.ListNodesResponse, error) {
	c := n.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &serverpb.ListNodesResponse{Nodes: make(map[uint64]*modelspb.NodeInfo)}
	for i, m := range c.nodes {
		if !m.slave {
			out.Nodes[uint64(i)] = &modelspb.NodeInfo{NodeId: uint64(i), Address: m.addr, DcID: m.dc}
		}
	}
	return out, nil
}

func (n *fakeNode) GetReplicas(context.Context, *serverpb.GetReplicasRequest) (*serverpb.GetReplicasResponse, error) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	return &serverpb.GetReplicasResponse{Replicas: n.cluster.replicas}, nil
}

// WatchChanges sends the present changes, then a message without changes, and then each
// new change, and messages without changes as servers do, more often.
func (n *fakeNode) WatchChanges(r *serverpb.WatchChangesRequest, s grpc.ServerStreamingServer[serverpb.GetChangesResponse]) error {
	n.mu.Lock()
	before := n.before
	n.mu.Unlock()
	if before != nil {
		if err := before(s.Context(), serverpb.DKVReplication_WatchChanges_FullMethodName); err != nil {
			return err
		}
	}
	c := n.cluster
	next, asked := r.FromChangeNumber, r.HistoryId
	c.mu.Lock()
	if end, is := c.ended[asked]; is && n.own == "" && r.LastChange != nil && r.GetLastChange() <= end {
		next, asked = min(next, end+1), c.history
	}
	c.mu.Unlock()
	for {
		c.mu.Lock()
		i := slices.IndexFunc(c.vBuckets, func(b *fakeBucket) bool { return b.name == r.VBucket })
		b, changed, history := c.vBuckets[i], c.changed, cmp.Or(n.own, c.history)
		floor, kept, newest, changes := b.floor, max(b.floor, n.floor), b.index(), slices.Clone(b.changes)
		c.mu.Unlock()
		if asked != "" && asked != history {
			return explained(codes.FailedPrecondition, kv.ReasonNotApplied, "the history is %s", history)
		}
		if n.alone.Load() {
			if err := s.Send(&serverpb.GetChangesResponse{MasterChangeNumber: next - 1, HistoryId: history, AgeMillis: 60_000}); err != nil {
				return err
			}
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-s.Context().Done():
				return nil
			}
		}
		switch {
		case next < kept:
			return explained(codes.OutOfRange, kv.ReasonNotApplied, "change %d is not retained", next)
		case next > newest+1:
			return explained(codes.FailedPrecondition, kv.ReasonNotApplied, "change %d is ahead", next)
		}
		for ; next <= newest; next++ {
			if err := sendMatching(s, changes[next-floor], r.KeyPrefix, history, newest); err != nil {
				return err
			}
		}
		if err := s.Send(&serverpb.GetChangesResponse{MasterChangeNumber: newest, HistoryId: history}); err != nil {
			return err
		}
		select {
		case err := <-n.expel:
			return err
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		case <-s.Context().Done():
			return nil
		}
	}
}

func sendMatching(s grpc.ServerStreamingServer[serverpb.GetChangesResponse], rec *serverpb.ChangeRecord, prefix []byte, history string, newest uint64) error {
	out := &serverpb.ChangeRecord{ChangeNumber: rec.ChangeNumber, Clock: rec.Clock}
	for _, t := range rec.Trxns {
		if bytes.HasPrefix(t.Key, prefix) {
			out.Trxns = append(out.Trxns, t)
		}
	}
	if len(out.Trxns) == 0 {
		return nil
	}
	return s.Send(&serverpb.GetChangesResponse{MasterChangeNumber: newest, HistoryId: history, NumberOfChanges: 1, Changes: []*serverpb.ChangeRecord{out}})
}
