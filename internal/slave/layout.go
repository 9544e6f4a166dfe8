package slave

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
)

// layoutError means that a master divides the database into another number of vBuckets. The first
// ones of both have the same names, and other keys.
type layoutError struct {
	master       string
	theirs, ours int
}

func (e layoutError) Error() string {
	return fmt.Sprintf("master %s has %d vBuckets, and this node %d: start this node with vbuckets: %d, on an empty db-folder", e.master, e.theirs, e.ours, e.theirs)
}

// checkLayout returns an error if the master is known to divide the database in another way.
func (s *session) checkLayout(ctx context.Context) error {
	if s.opts.VBuckets == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, s.patience.length())
	defer cancel()
	resp := new(serverpb.NodeStatusResponse)
	err := s.peer.Invoke(limited, serverpb.DKVNode_GetNodeStatus_FullMethodName, new(emptypb.Empty), resp)
	switch {
	case errors.Is(err, context.DeadlineExceeded): // what comes next would wait as long
		return err
	case err != nil:
		return nil // it may be of the earlier system, or fail in a moment in what it is needed for
	}
	if n := len(resp.GetVBuckets()); n > 0 && n != s.opts.VBuckets {
		return layoutError{s.source.Address, n, s.opts.VBuckets}
	}
	return nil
}
