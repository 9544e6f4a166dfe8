package role

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/confirming"
)

// Standby serves the calls of standbys and promotions; each part of it has a package of its
// own, and is nil on a node that does not serve it.
type Standby struct {
	peerpb.UnimplementedStandbyServer
	Confirming *confirming.Service
	// Standing says what the logs that the node owns say of a standby.
	Standing func(ctx context.Context, disk string) ([]*peerpb.StandingOf, error)
	// Database is what the node keeps.
	Database string
}

// GetStanding implements peerpb.StandbyServer.
func (s Standby) GetStanding(ctx context.Context, r *peerpb.GetStandingRequest) (*peerpb.GetStandingResponse, error) {
	switch {
	case s.Standing == nil:
		return nil, status.Error(codes.Unimplemented, "this node owns no logs, so that they say nothing of standbys; ask a master")
	case r.GetDatabase() != s.Database:
		return nil, kv.Errorf(kv.Precondition, "this node keeps the database %q, not %q", s.Database, r.GetDatabase())
	}
	found, err := s.Standing(ctx, r.GetDisk())
	if err != nil {
		return nil, err
	}
	return &peerpb.GetStandingResponse{VBuckets: found}, nil
}

// Confirm implements peerpb.StandbyServer.
func (s Standby) Confirm(stream confirming.Stream) error {
	if s.Confirming == nil {
		return status.Error(codes.Unimplemented, "this node owns no logs, so that slaves confirm nothing to it; ask a master")
	}
	return s.Confirming.Confirm(stream)
}
