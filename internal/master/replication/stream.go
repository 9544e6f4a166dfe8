package replication

import (
	"bytes"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// StreamChanges implements DKVReplication.
func (s *Service) StreamChanges(r *serverpb.StreamChangesRequest, stream grpc.ServerStreamingServer[serverpb.GetChangesResponse]) error {
	v, err := s.keyspace.Named(r.GetVBucket())
	if err != nil {
		return err
	}
	f := feed{v: v, next: max(r.GetFromChangeNumber(), 1), prompt: true, share: share{of: &s.transit}, among: s.reading.followers[v.Name]}
	f.send = func(c *fsm.Changes, age time.Duration) error {
		if err := sendChanges(stream, c, age, encoding{requests: r.GetWithRequests(), zstd: r.GetAcceptZstd()}); err != nil {
			return err
		}
		s.followers.lives(r.GetReplica(), v.Name)
		return nil
	}
	s.followers.heard(r.GetReplica(), v.Name, f.next-1)
	return f.run(stream.Context(), r.GetHistoryId())
}

// WatchChanges implements DKVReplication. The masterChangeNumber of each message is the number
// up to which everything was sent: a watcher that reconnects resumes after it, even if none of
// its keys has changed for long.
func (s *Service) WatchChanges(r *serverpb.WatchChangesRequest, stream grpc.ServerStreamingServer[serverpb.GetChangesResponse]) error {
	v, err := s.keyspace.Named(r.GetVBucket())
	if err != nil {
		return err
	}
	f := feed{v: v, next: r.GetFromChangeNumber(), last: r.LastChange, share: share{of: &s.transit}, among: s.reading.watches}
	if len(r.GetKeyPrefix()) > 0 {
		f.keep = func(m *kv.Mutation) bool { return bytes.HasPrefix(m.Key, r.GetKeyPrefix()) }
	}
	f.send = func(c *fsm.Changes, age time.Duration) error {
		c.Newest = f.next - 1
		return sendChanges(stream, c, age, encoding{})
	}
	return f.run(stream.Context(), r.GetHistoryId())
}
