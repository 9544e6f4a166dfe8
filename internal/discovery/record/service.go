package record

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/peer"
)

// AtOwner serves a request at the node that owns the registry: with here on this node, with
// there by a call of another one. Both may be called more than once.
type AtOwner func(ctx context.Context, here func() error, there func(context.Context, *peer.Peer) error) error

// Service is the gRPC service Witness. Any node of the registry may be asked; the owner of
// its log answers.
type Service struct {
	peerpb.UnimplementedWitnessServer
	Book    *Book
	AtOwner AtOwner
}

var _ peerpb.WitnessServer = (*Service)(nil)

// call serves a request that was checked. here fills out, which is empty then.
func (s *Service) call(ctx context.Context, method string, in, out proto.Message, here func() error) error {
	return s.AtOwner(ctx,
		func() error { proto.Reset(out); return here() },
		func(ctx context.Context, p *peer.Peer) error {
			proto.Reset(out)
			return p.Invoke(ctx, method, in, out)
		})
}

// GetRecord implements Witness.
func (s *Service) GetRecord(ctx context.Context, r *peerpb.GetRecordRequest) (*peerpb.RecordResponse, error) {
	if err := checkTexts(database(r.GetDatabase())); err != nil {
		return nil, err
	}
	out := new(peerpb.RecordResponse)
	err := s.call(ctx, peerpb.Witness_GetRecord_FullMethodName, r, out, func() error {
		record, granted, err := s.Book.Get(ctx, r.GetDatabase())
		out.Record, out.GrantedMillis = record, uint64((granted + time.Millisecond - 1).Milliseconds())
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Renew implements Witness.
func (s *Service) Renew(ctx context.Context, r *peerpb.RenewRequest) (*peerpb.RenewResponse, error) {
	if err := checkRenew(r); err != nil {
		return nil, err
	}
	out := new(peerpb.RenewResponse)
	err := s.call(ctx, peerpb.Witness_Renew_FullMethodName, r, out, func() (err error) {
		out.Record, out.Granted, err = s.Book.Renew(ctx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ChangeRecord implements Witness.
func (s *Service) ChangeRecord(ctx context.Context, r *peerpb.ChangeRecordRequest) (*peerpb.RecordResponse, error) {
	if err := checkChange(r); err != nil {
		return nil, err
	}
	out := new(peerpb.RecordResponse)
	err := s.call(ctx, peerpb.Witness_ChangeRecord_FullMethodName, r, out, func() (err error) {
		out.Record, err = s.Book.Change(ctx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Claim implements Witness.
func (s *Service) Claim(ctx context.Context, r *peerpb.ClaimRequest) (*peerpb.ClaimResponse, error) {
	if err := checkClaim(r); err != nil {
		return nil, err
	}
	out := new(peerpb.ClaimResponse)
	err := s.call(ctx, peerpb.Witness_Claim_FullMethodName, r, out, func() error {
		res, err := s.Book.Claim(ctx, r)
		if err == nil {
			proto.Merge(out, res)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
