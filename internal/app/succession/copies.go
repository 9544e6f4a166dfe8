package succession

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/app/role/member"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// What a slave answers to the founder of a promotion that it is a part of.

// asked returns an error unless this node is a slave of a database.
func (s *Service) asked(database string) error {
	switch {
	case database != s.node.Layout.Database:
		return kv.Errorf(kv.Precondition, "this node keeps the database %q, not %q", s.node.Layout.Database, database)
	case s.founder == nil:
		return kv.Errorf(kv.Precondition, "this node is %s: only slaves can be promoted", s.role.Name())
	case s.node.Dir == nil:
		return kv.Errorf(kv.Precondition, "this slave is diskless: what it acknowledged as a master would be lost with the process; name slaves with a disk")
	}
	return nil
}

// SealCopies implements Standby.
func (s *Service) SealCopies(ctx context.Context, r *peerpb.SealCopiesRequest) (*peerpb.CopiesResponse, error) {
	if r.GetUnseal() && s.founder == nil && r.GetDatabase() == s.node.Layout.Database {
		return new(peerpb.CopiesResponse), nil // it has become a master, whose copies are no longer sealed
	}
	if err := s.asked(r.GetDatabase()); err != nil {
		return nil, err
	}
	if busy := s.founder.Busy(); busy != "" && !r.GetUnseal() {
		return nil, kv.Errorf(kv.Precondition, "this node has a promotion of its own: %s", busy)
	}
	switch {
	case r.GetPromotion() == "":
		if err := s.node.Unfit(); err != nil {
			return nil, kv.Errorf(kv.Precondition, "this slave could not be a master: %w", err)
		}
	case r.GetUnseal():
		if err := s.copies.Unseal(ctx, r.GetPromotion()); err != nil {
			return nil, err
		}
		s.node.Log.Info("a promotion of another node was given up; this slave follows its master again", "promotion", r.GetPromotion())
	default:
		if err := s.copies.Seal(ctx, r.GetPromotion()); err != nil {
			return nil, err
		}
		s.node.Log.Warn("a promotion of another node has sealed this slave's copies", "promotion", r.GetPromotion())
	}
	return s.copiesNow(ctx)
}

// copiesNow says what this slave is and how far its copies are.
func (s *Service) copiesNow(ctx context.Context) (*peerpb.CopiesResponse, error) {
	url, disk, err := member.Reserve(ctx, s.node)
	if err != nil {
		return nil, kv.Errorf(kv.Precondition, "this node cannot be a member of a cluster: %w", err)
	}
	positions, err := s.copies.Reached(ctx)
	if err != nil {
		return nil, replica.ReadError(err)
	}
	terms := member.TermsOf(s.node)
	resp := &peerpb.CopiesResponse{
		Disk: disk, Url: url, Address: s.node.Info.Address, ClusterName: terms.ClusterName,
		Version: terms.Version, Format: terms.Format, Timing: terms.Timing.Current.Text(),
	}
	for _, p := range positions {
		resp.Copies = append(resp.Copies, &peerpb.CopyPosition{
			VBucket: p.VBucket, History: p.History, Index: p.Index, Clock: uint64(p.Clock), Digest: p.Digest,
			Lag: p.Lag, AgeMillis: uint64(p.Age.Milliseconds()), Sealed: p.Sealed, Confirmed: p.Confirmed,
		})
	}
	return resp, nil
}

// CatchUpCopy implements Standby.
func (s *Service) CatchUpCopy(ctx context.Context, r *peerpb.CatchUpCopyRequest) (*peerpb.CopiesResponse, error) {
	if err := s.asked(r.GetDatabase()); err != nil {
		return nil, err
	}
	if err := s.copies.CatchUp(ctx, r.GetPromotion(), r.GetVBucket(), r.GetFrom(), r.GetUpTo()); err != nil {
		return nil, err
	}
	return s.copiesNow(ctx)
}

// TakeRequests implements Standby.
func (s *Service) TakeRequests(ctx context.Context, r *peerpb.TakeRequestsRequest) (*peerpb.TakeRequestsResponse, error) {
	if err := s.asked(r.GetDatabase()); err != nil {
		return nil, err
	}
	for _, name := range s.node.Layout.VBuckets {
		parts, err := s.set.requests(ctx, r.GetFrom(), r.GetPromotion(), name)
		if err != nil {
			return nil, err
		}
		if err := writeRequests(s.node.Dir.Path(), r.GetPromotion(), name, parts); err != nil {
			return nil, kv.Errorf(replica.KindOf(err), "the remembered requests of vBucket %s cannot be stored: %w", name, err)
		}
	}
	return new(peerpb.TakeRequestsResponse), nil
}

// GetRequests implements Standby.
func (s *Service) GetRequests(r *peerpb.GetRequestsRequest, stream grpc.ServerStreamingServer[peerpb.RequestsPart]) error {
	if err := s.asked(r.GetDatabase()); err != nil {
		return err
	}
	err := s.copies.ExportRequests(stream.Context(), r.GetPromotion(), r.GetVBucket(), func(records []byte) error {
		return stream.Send(&peerpb.RequestsPart{Records: records})
	})
	if err != nil {
		return err
	}
	return stream.Send(&peerpb.RequestsPart{Last: true})
}

// BecomeMaster implements Standby.
func (s *Service) BecomeMaster(ctx context.Context, r *peerpb.BecomeMasterRequest) (*peerpb.BecomeMasterResponse, error) {
	record := recordOf(r)
	if p := s.part.Promotion; p != nil && p.ID == record.ID && p.Step == promotion.Done {
		return new(peerpb.BecomeMasterResponse), nil
	}
	if err := s.asked(r.GetDatabase()); err != nil {
		return nil, err
	}
	err := s.founder.Become(ctx, record, func() error { return s.admits(ctx, &record) })
	if err != nil {
		return nil, kv.Errorf(replica.KindOf(err), "this node cannot become a master of era %d: %w", record.Era, err)
	}
	return new(peerpb.BecomeMasterResponse), nil
}

// unsealedSince reports whether no copy is sealed any more, and each is where a promotion cuts it.
func unsealedSince(r *promotion.Record, positions []promotion.Position) bool {
	return !slices.ContainsFunc(positions, func(p promotion.Position) bool {
		cut := r.Cuts[p.VBucket]
		return p.Sealed != "" || p.History != cut.Former || p.Index != cut.End
	})
}

// admits returns an error unless this node is what a promotion takes it for.
func (s *Service) admits(ctx context.Context, r *promotion.Record) error {
	url, disk, err := member.Reserve(ctx, s.node)
	if err != nil {
		return err
	}
	switch self := r.Self(); {
	case self.Disk != disk:
		return fmt.Errorf("the promotion knows it with the disk %s, and this is %s", self.Disk, disk)
	case self.URL != url:
		return fmt.Errorf("the promotion knows it with the Raft address %s, and it has %s now: start it with nexus-node-url as it was", self.URL, url)
	}
	positions, err := s.copies.Reached(ctx)
	if err == nil && unsealedSince(r, positions) {
		// An operator has ended its seal meanwhile, and nothing was applied since.
		if err = s.copies.Seal(ctx, r.ID); err == nil {
			positions, err = s.copies.Reached(ctx)
		}
	}
	if err != nil {
		return err
	}
	if len(positions) != len(r.Cuts) {
		return fmt.Errorf("the promotion has %d vBuckets, and this node %d", len(r.Cuts), len(positions))
	}
	for _, p := range positions {
		cut := r.Cuts[p.VBucket]
		if p.Sealed == "" {
			return fmt.Errorf("vBucket %s is at %d of history %s and not sealed any more; the promotion %s cuts history %s at %d: "+
				"remove this node from its new cluster (dkvctl -removeNode), and add it again with an empty db-folder", p.VBucket, p.Index, p.History, r.ID, cut.Former, cut.End)
		}
		if p.Sealed != r.ID || p.History != cut.Former || p.Index != cut.End {
			return fmt.Errorf("vBucket %s is at %d of history %s, sealed by %q; the promotion %s cuts history %s at %d", p.VBucket, p.Index, p.History, p.Sealed, r.ID, cut.Former, cut.End)
		}
	}
	return nil
}
