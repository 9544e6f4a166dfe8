// Package replication serves the changes of a node's vBuckets to slaves and watchers: as a
// stream, page by page, and as snapshots to begin from. It also keeps the list of slaves.
package replication

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/route"
)

// Replication serves the change stream, snapshots to begin it from, and the list
// of slaves.
type Service struct {
	serverpb.UnimplementedDKVReplicationServer
	keyspace  *route.Keyspace
	router    *route.Router
	followers *followers
	snapshots *snapshots
	transit   transit
	reading   reading
	making    *fair.Gate // of chunks of snapshots
	// listing holds a token while a call changes the list of slaves, because a change
	// depends on what is listed.
	listing chan struct{}
	// listensUntil is until when no slave expires; see KeepSlaves.
	listensUntil atomic.Pointer[time.Time]
	listenFor    time.Duration
	// checked is the time by the log's clock at the last check of the list; nil before the first.
	checked atomic.Pointer[time.Time]
}

// New makes the service. A nil router forwards nothing.
func New(k *route.Keyspace, r *route.Router) *Service {
	s := &Service{keyspace: k, router: r, followers: newFollowers(), snapshots: newSnapshots(), making: newMaking(runtime.GOMAXPROCS(0)), listing: make(chan struct{}, 1), listenFor: listenFor}
	s.listens()
	var names []string
	for _, v := range k.All() {
		names = append(names, v.Name)
		// Not every replica reopens its storage.
		if waits, ok := v.Replica.(interface{ WhenHeldUp(func()) }); ok {
			waits.WhenHeldUp(func() { s.snapshots.evict(v.Name) })
		}
	}
	s.reading = newReading(names)
	return s
}

// Close releases the snapshots that wait to be resumed, which keep replicas from closing. It is
// idempotent.
func (s *Service) Close() { s.snapshots.close() }

// Followers returns how many slaves have lately asked for the changes of a vBucket and
// described themselves.
func (s *Service) Followers(vBucket string) int { return s.followers.count(vBucket) }

// Memory is how many bytes a call may take beyond its request and response: the changes of a
// GetChanges are there as records and encoded. Streams bound themselves: see transit.
func Memory(_ string, req any) int64 {
	if _, is := req.(*serverpb.GetChangesRequest); is {
		return 2 * changelog.PageBytes
	}
	return 0
}

// GetChanges implements DKVReplication.
func (s *Service) GetChanges(ctx context.Context, r *serverpb.GetChangesRequest) (*serverpb.GetChangesResponse, error) {
	v, err := s.keyspace.Named(r.GetVBucket())
	if err != nil {
		return nil, err
	}
	limit := int(r.GetMaxNumberOfChanges())
	if limit == 0 || limit > changelog.PageChanges {
		limit = changelog.PageChanges
	}
	from := max(r.GetFromChangeNumber(), 1)
	age := v.Age() // before the read: a later age may be that of later changes
	changes, err := v.Changes(ctx, from, limit, changelog.PageBytes)
	if err != nil {
		return nil, err
	}
	age = max(age, v.Age()) // storage may have been reopened at an earlier index meanwhile
	s.followers.heard(r.GetReplica(), v.Name, from-1)
	resp := changesResponse(&changes, age, r.GetWithRequests())
	if asked := r.GetHistoryId(); asked != "" && asked != changes.History {
		resp.ReplacesHistory = slices.ContainsFunc(changes.Former, func(f fsm.Former) bool { return f.History == asked })
		resp.Lineage = lineage(changes.Former)
	}
	resp.NowMillis = uint64(max(v.Now().UnixMilli(), 0))
	if copied, is := v.Replica.(interface{ Path() []string }); is {
		resp.Path = copied.Path()
	}
	if r.GetAcceptZstd() {
		return resp, shrink(resp)
	}
	return resp, nil
}
