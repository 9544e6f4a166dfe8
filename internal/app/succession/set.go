package succession

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role/member"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/timing"
)

// set is the other nodes of a promotion, as its founder reaches them.
type set struct {
	*calls
	node *node.Node
}

// Self implements promotion.Set.
func (s *set) Self() (promotion.Node, error) {
	url, disk, err := member.Reserve(context.Background(), s.node)
	if err != nil {
		return promotion.Node{}, kv.Errorf(kv.Precondition, "this node cannot be a member of a cluster: %w", err)
	}
	return promotion.Node{Address: s.node.Info.Address, URL: url, Disk: disk}, nil
}

// Format implements promotion.Set.
func (*set) Format() uint32 { return command.Newest() }

// Look implements promotion.Set.
func (s *set) Look(ctx context.Context, address string) (promotion.Node, []promotion.Position, error) {
	resp, err := s.sealCopies(ctx, address, &peerpb.SealCopiesRequest{Database: s.database})
	if err != nil {
		return promotion.Node{}, nil, err
	}
	own := member.TermsOf(s.node)
	terms := bootstrap.Terms{
		ClusterName: resp.GetClusterName(), Database: s.database, VBuckets: len(resp.GetCopies()),
		Version: resp.GetVersion(), Format: resp.GetFormat(), Timing: timing.Setting{},
	}
	terms.ParseTiming(resp.GetTiming())
	if err := terms.Fits(resp.GetUrl(), own); err != nil {
		return promotion.Node{}, nil, err
	}
	found := promotion.Node{Address: address, URL: resp.GetUrl(), Disk: resp.GetDisk()}
	if found.Address != resp.GetAddress() {
		return found, nil, kv.Errorf(kv.Precondition, "it serves gRPC at %s by its own settings (advertise-addr); name it by that", resp.GetAddress())
	}
	return found, positionsOf(resp), nil
}

// Seal implements promotion.Set.
func (s *set) Seal(ctx context.Context, address, id string) ([]promotion.Position, error) {
	resp, err := s.sealCopies(ctx, address, &peerpb.SealCopiesRequest{Database: s.database, Promotion: id})
	return positionsOf(resp), err
}

// Unseal implements promotion.Set.
func (s *set) Unseal(ctx context.Context, address, id string) error {
	_, err := s.sealCopies(ctx, address, &peerpb.SealCopiesRequest{Database: s.database, Promotion: id, Unseal: true})
	return err
}

func (s *set) sealCopies(ctx context.Context, address string, req *peerpb.SealCopiesRequest) (*peerpb.CopiesResponse, error) {
	resp := new(peerpb.CopiesResponse)
	return resp, s.pool.Call(ctx, address, peerpb.Standby_SealCopies_FullMethodName, req, resp)
}

// CatchUp implements promotion.Set.
func (s *set) CatchUp(ctx context.Context, address, id, vBucket, from string, upTo kv.Index) ([]promotion.Position, error) {
	resp := new(peerpb.CopiesResponse)
	req := &peerpb.CatchUpCopyRequest{Database: s.database, Promotion: id, VBucket: vBucket, From: from, UpTo: upTo}
	err := s.pool.Call(ctx, address, peerpb.Standby_CatchUpCopy_FullMethodName, req, resp)
	return positionsOf(resp), err
}

// TakeRequests implements promotion.Set.
func (s *set) TakeRequests(ctx context.Context, address, id, founder string) error {
	req := &peerpb.TakeRequestsRequest{Database: s.database, Promotion: id, From: founder}
	return s.pool.Call(ctx, address, peerpb.Standby_TakeRequests_FullMethodName, req, new(peerpb.TakeRequestsResponse))
}

// Become implements promotion.Set.
func (s *set) Become(ctx context.Context, address string, r promotion.Record) error {
	return s.pool.Call(ctx, address, peerpb.Standby_BecomeMaster_FullMethodName, becomes(s.database, r), new(peerpb.BecomeMasterResponse))
}

// becomes is a promotion as a node of its set is told of it.
func becomes(database string, r promotion.Record) *peerpb.BecomeMasterRequest {
	req := &peerpb.BecomeMasterRequest{
		Database: database, Promotion: r.ID, Era: r.Era, History: r.History,
		Deployment: r.Deployment, Format: r.Format, Replica: r.Replica, FormerMasters: r.Masters, Planned: r.Planned,
	}
	for _, n := range r.Nodes {
		req.Nodes = append(req.Nodes, &peerpb.PromotedNode{Replica: n.Replica, Url: n.URL, Disk: n.Disk, Address: n.Address})
	}
	for name, cut := range r.Cuts {
		req.Cuts = append(req.Cuts, &peerpb.CutOfVBucket{VBucket: name, Former: cut.Former, End: cut.End, Clock: uint64(cut.Clock)})
	}
	return req
}

// recordOf is the promotion that a node of its set is told of.
func recordOf(r *peerpb.BecomeMasterRequest) promotion.Record {
	out := promotion.Record{
		ID: r.GetPromotion(), Step: promotion.Decided, Era: r.GetEra(), History: r.GetHistory(),
		Deployment: r.GetDeployment(), Format: r.GetFormat(), Replica: r.GetReplica(), Masters: r.GetFormerMasters(), Planned: r.GetPlanned(),
		Cuts: map[string]promotion.Cut{},
	}
	for _, n := range r.GetNodes() {
		if n.GetReplica() != r.GetReplica() {
			out.Untold = append(out.Untold, n.GetAddress()) // each tells the others: the founder may be gone
		}
		out.Nodes = append(out.Nodes, promotion.Node{Replica: n.GetReplica(), URL: n.GetUrl(), Disk: n.GetDisk(), Address: n.GetAddress()})
	}
	for _, c := range r.GetCuts() {
		out.Cuts[c.GetVBucket()] = promotion.Cut{Former: c.GetFormer(), End: c.GetEnd(), Clock: kv.Clock(c.GetClock())}
	}
	return out
}

func positionsOf(resp *peerpb.CopiesResponse) (out []promotion.Position) {
	for _, c := range resp.GetCopies() {
		out = append(out, promotion.Position{
			VBucket: c.GetVBucket(), History: c.GetHistory(), Index: c.GetIndex(), Clock: kv.Clock(c.GetClock()),
			Lag: c.GetLag(), Age: time.Duration(c.GetAgeMillis()) * time.Millisecond, Digest: c.GetDigest(), Sealed: c.GetSealed(), Confirmed: c.GetConfirmed(),
		})
	}
	return out
}

// requests fetches the remembered requests of a vBucket from the founder.
func (s *set) requests(ctx context.Context, founder, id, vBucket string) (parts [][]byte, err error) {
	req := &peerpb.GetRequestsRequest{Database: s.database, Promotion: id, VBucket: vBucket}
	stream, err := s.pool.Stream(ctx, founder, peerpb.Standby_GetRequests_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	for {
		part := new(peerpb.RequestsPart)
		switch err := stream.Recv(part); {
		case errors.Is(err, io.EOF):
			return nil, kv.Errorf(kv.Unavailable, "%s has not sent all remembered requests of vBucket %s", founder, vBucket)
		case err != nil:
			return nil, fmt.Errorf("the remembered requests of vBucket %s at %s: %w", vBucket, founder, err)
		case part.GetLast():
			return parts, nil
		}
		parts = append(parts, part.GetRecords())
	}
}
