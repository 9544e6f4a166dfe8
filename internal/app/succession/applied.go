package succession

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// maxAppliedWait bounds how long AwaitApplied waits.
const maxAppliedWait = time.Second

// AwaitApplied implements Standby: how far this node has applied a vBucket's log.
func (s *Service) AwaitApplied(ctx context.Context, r *peerpb.AwaitAppliedRequest) (*peerpb.AwaitAppliedResponse, error) {
	if r.GetDatabase() != s.node.Layout.Database {
		return nil, kv.Errorf(kv.Precondition, "this node keeps the database %q, not %q", s.node.Layout.Database, r.GetDatabase())
	}
	for _, v := range s.role.VBuckets() {
		if v.Name != r.GetVBucket() {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, min(time.Duration(r.GetWaitMillis())*time.Millisecond, maxAppliedWait))
		err := v.AwaitApplied(limited, r.GetIndex())
		cancel()
		if err != nil && limited.Err() == nil {
			return nil, err
		}
		at := v.Status()
		if slave, is := s.role.(interface{ Agrees(vBucket string) bool }); is && !slave.Agrees(v.Name) {
			return nil, kv.Errorf(kv.Unavailable, "this slave follows no master at present whose log has its copy of vBucket %s, which is at %d", v.Name, at.Applied)
		}
		return &peerpb.AwaitAppliedResponse{History: at.Identity.History, Applied: at.Applied}, nil
	}
	return nil, kv.Errorf(kv.NotFound, "this node has no vBucket %.64q", r.GetVBucket())
}
