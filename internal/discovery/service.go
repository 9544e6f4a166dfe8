package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/route"
)

// update is the rows of one heartbeat, and when it was sent, in epoch seconds.
type update struct {
	rows  []*serverpb.RegionInfo
	stamp uint64
}

// readUpdate checks a request.
func readUpdate(r *serverpb.UpdateStatusRequest) (update, error) {
	out := update{stamp: r.GetTimestamp(), rows: make([]*serverpb.RegionInfo, 0, 1+len(r.GetMore()))}
	if r.GetRegionInfo() != nil || len(r.GetMore()) == 0 {
		out.rows = append(out.rows, r.GetRegionInfo())
	}
	out.rows = append(out.rows, r.GetMore()...)
	for _, in := range out.rows {
		if err := validate(in); err != nil {
			return update{}, err
		}
		in.SilentQuarters = 0 // only the registry sets it
	}
	return out, nil
}

// UpdateStatus implements DKVDiscovery. It returns when what is new is in the log.
func (r *Registry) UpdateStatus(ctx context.Context, req *serverpb.UpdateStatusRequest) (*serverpb.Status, error) {
	u, err := readUpdate(req)
	if err != nil {
		return nil, err
	}
	err = r.atOwner(ctx, updatePatience,
		func(g *reign) error { return g.update(ctx, u) },
		func(ctx context.Context, p *peer.Peer) error {
			return p.Invoke(ctx, serverpb.DKVDiscovery_UpdateStatus_FullMethodName, req, new(serverpb.Status))
		})
	if err != nil {
		return nil, err
	}
	return &serverpb.Status{}, nil
}

// ReleaseDatabase implements DKVDiscovery. Its answer names the former holder.
func (r *Registry) ReleaseDatabase(ctx context.Context, req *serverpb.ReleaseDatabaseRequest) (*serverpb.Status, error) {
	name := req.GetDatabase()
	if name == "" || len(name) > maxName {
		return nil, kv.Errorf(kv.Invalid, "database %.64q has %d bytes: name one of up to %d", name, len(name), maxName)
	}
	out := new(serverpb.Status)
	err := r.atOwner(ctx, updatePatience,
		func(g *reign) error {
			wait, from, err := g.table.expel(name, time.Now())
			if err != nil {
				return err
			}
			if err := await(ctx, wait); err != nil {
				return err
			}
			r.log.Warn("a database was taken from its holder", "database", name, "cluster", from)
			out.Message = fmt.Sprintf("database %q was taken from cluster %s; the next one to register holds it", name, cmp.Or(from, "(unnamed)"))
			r.mentionRecord(ctx, name, out)
			return nil
		},
		func(ctx context.Context, p *peer.Peer) error {
			out.Reset()
			return p.Invoke(ctx, serverpb.DKVDiscovery_ReleaseDatabase_FullMethodName, req, out)
		})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// mentionRecord says in the answer to a release that the record of the database stays: it
// belongs to the masters of its era, which may live, and whose slaves may be promoted.
func (r *Registry) mentionRecord(ctx context.Context, name string, out *serverpb.Status) {
	record, _, err := r.book.Get(ctx, name)
	switch {
	case err != nil:
		out.Message += fmt.Sprintf(". Its record, if there is one, stays; it could not be read: %v", err)
		return
	case record == nil:
		return
	}
	out.Message += fmt.Sprintf(". Its record stays: only masters of era %d and deployment %s may answer, until a promotion or dkvctl -claim replaces them",
		record.GetEra(), record.GetDeployment())
}

// GetClusterInfo implements DKVDiscovery. If no node owns the registry, it returns the
// rows in this node's copy.
func (r *Registry) GetClusterInfo(ctx context.Context, req *serverpb.GetClusterInfoRequest) (*serverpb.GetClusterInfoResponse, error) {
	out := new(serverpb.GetClusterInfoResponse)
	f := filterOf(req)
	err := r.atOwner(ctx, readPatience,
		func(g *reign) error {
			if req.GetSummaryOnly() {
				out.Summary = g.table.observe(time.Now()).summary()
			} else {
				out.RegionInfos = g.table.query(f)
			}
			return nil
		},
		func(ctx context.Context, p *peer.Peer) error {
			out.Reset()
			return p.Invoke(ctx, serverpb.DKVDiscovery_GetClusterInfo_FullMethodName, req, out)
		})
	switch {
	case err == nil:
		return out, nil
	case route.RegistryForwarded.In(ctx) || kv.KindOf(err) != kv.Unavailable || req.GetSummaryOnly():
		return nil, err
	}
	t, knownErr := r.known.rows(ctx, r.store, r.times, r.limits)
	if knownErr != nil {
		return nil, errors.Join(err, knownErr)
	}
	return &serverpb.GetClusterInfoResponse{RegionInfos: t.query(f)}, nil
}

// WatchClusterInfo implements DKVDiscovery. It ends with Unavailable when the registry
// gets another owner.
func (r *Registry) WatchClusterInfo(req *serverpb.GetClusterInfoRequest, stream grpc.ServerStreamingServer[serverpb.ClusterInfoChange]) error {
	begun := false // after the first message the request cannot start again
	once := func(err error) error {
		if err != nil && begun {
			return &final{err}
		}
		return err
	}
	err := r.atOwner(stream.Context(), updatePatience,
		func(g *reign) error {
			begun = true
			return once(g.follow(filterOf(req), stream))
		},
		func(ctx context.Context, p *peer.Peer) error { return once(relay(ctx, p, req, stream, &begun)) })
	var f *final
	if errors.As(err, &f) {
		return f.error
	}
	return err
}

// final is an error after which a request must not be repeated.
type final struct{ error }

// relay passes on the owner's watch.
func relay(ctx context.Context, p *peer.Peer, req *serverpb.GetClusterInfoRequest, to grpc.ServerStreamingServer[serverpb.ClusterInfoChange], begun *bool) error {
	from, err := p.Stream(ctx, serverpb.DKVDiscovery_WatchClusterInfo_FullMethodName, req)
	if err != nil {
		return err
	}
	for {
		m := new(serverpb.ClusterInfoChange)
		switch err := from.Recv(m); {
		case errors.Is(err, io.EOF):
			return errChangedHands
		case err != nil:
			return err
		}
		*begun = true
		if err := to.Send(m); err != nil {
			return err
		}
	}
}
