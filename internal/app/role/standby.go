package role

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/master/confirming"
)

// Standby serves the calls of standbys and promotions; each part of it has a package of its
// own, and is nil on a node that does not serve it.
type Standby struct {
	peerpb.UnimplementedStandbyServer
	Confirming *confirming.Service
}

// Confirm implements peerpb.StandbyServer.
func (s Standby) Confirm(stream confirming.Stream) error {
	if s.Confirming == nil {
		return status.Error(codes.Unimplemented, "this node owns no logs, so that slaves confirm nothing to it; ask a master")
	}
	return s.Confirming.Confirm(stream)
}
