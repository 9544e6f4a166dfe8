package master

import (
	"context"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// Replication serves the change stream.
type Replication struct {
	serverpb.UnimplementedDKVReplicationServer
	keyspace *Keyspace
}

// NewReplication makes the service.
func NewReplication(k *Keyspace) *Replication { return &Replication{keyspace: k} }

const (
	// maxChangesBytes keeps a response under the 4 MiB that gRPC clients
	// accept when they are not told otherwise.
	maxChangesBytes = 3<<20 + 512<<10
	maxChanges      = 100_000
)

// GetChanges implements DKVReplication.
func (s *Replication) GetChanges(ctx context.Context, r *serverpb.GetChangesRequest) (*serverpb.GetChangesResponse, error) {
	v, err := s.keyspace.Named(r.GetVBucket())
	if err != nil {
		return nil, err
	}
	limit := int(r.GetMaxNumberOfChanges())
	if limit == 0 || limit > maxChanges {
		limit = maxChanges
	}
	changes, err := v.Changes(ctx, max(r.GetFromChangeNumber(), 1), limit, maxChangesBytes)
	if err != nil {
		return nil, err
	}
	resp := &serverpb.GetChangesResponse{
		Status:             ok(),
		MasterChangeNumber: changes.Newest,
		NumberOfChanges:    uint32(len(changes.Changes)),
		Changes:            make([]*serverpb.ChangeRecord, len(changes.Changes)),
		HistoryId:          changes.History,
	}
	for i := range changes.Changes {
		resp.Changes[i] = changeRecord(&changes.Changes[i])
	}
	return resp, nil
}

func changeRecord(c *kv.Change) *serverpb.ChangeRecord {
	rec := &serverpb.ChangeRecord{
		ChangeNumber:  c.Index,
		NumberOfTrxns: uint32(len(c.Mutations)),
		Trxns:         make([]*serverpb.TrxnRecord, len(c.Mutations)),
		Clock:         uint64(c.Clock),
	}
	for i := range c.Mutations {
		m := &c.Mutations[i]
		rec.Trxns[i] = &serverpb.TrxnRecord{
			Type:     serverpb.TrxnRecord_Put,
			Key:      m.Key,
			Value:    m.Value,
			ExpireTS: m.ExpireTS,
		}
		if m.Delete {
			rec.Trxns[i].Type = serverpb.TrxnRecord_Delete
		}
	}
	return rec
}
