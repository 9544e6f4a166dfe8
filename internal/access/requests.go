package access

import (
	"slices"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/auth"
)

// These functions find the keys and databases of requests. A request of an unexpected type
// is not covered: the table is wrong then, and must not open anything.

// keyed is a request with one key.
type keyed interface{ GetKey() []byte }

// FirstKey returns the key that a request is about, the first of several, or the prefix of its
// keys. It reports whether the request is about keys at all.
func FirstKey(req any) (key []byte, has bool) {
	switch of := req.(type) {
	case keyed:
		key = of.GetKey()
	case *serverpb.MultiGetRequest:
		if keys := of.GetKeys(); len(keys) > 0 {
			key = keys[0]
		}
	case *serverpb.MultiPutRequest:
		if puts := of.GetPutRequest(); len(puts) > 0 {
			key = puts[0].GetKey()
		}
	case interface{ GetKeyPrefix() []byte }:
		key = of.GetKeyPrefix()
	default:
		return nil, false
	}
	return key, true
}

func ofKey(d demand, req any) bool {
	r, ok := req.(keyed)
	return ok && d.key(r.GetKey())
}

func ofMultiGet(d demand, req any) bool {
	r, ok := req.(*serverpb.MultiGetRequest)
	if !ok {
		return false
	}
	for _, k := range r.GetKeys() {
		if !d.key(k) {
			return false
		}
	}
	return true
}

func ofMultiPut(d demand, req any) bool {
	r, ok := req.(*serverpb.MultiPutRequest)
	if !ok {
		return false
	}
	for _, p := range r.GetPutRequest() {
		if !d.key(p.GetKey()) {
			return false
		}
	}
	return true
}

// ofIterate covers what the iteration may come to, by its prefix, its start and its
// direction; package master reads the same range.
func ofIterate(d demand, req any) bool {
	r, ok := req.(*serverpb.IterateRequest)
	return ok && d.span(iterated(r))
}

func iterated(r *serverpb.IterateRequest) auth.Span {
	span := auth.Prefix(r.GetKeyPrefix())
	switch start := r.GetStartKey(); {
	case len(start) == 0:
	case r.GetReverse():
		span.End = append(slices.Clone(start), 0) // the start itself is included
	default:
		span.Start = start
	}
	return span
}

func ofWatch(d demand, req any) bool {
	r, ok := req.(*serverpb.WatchChangesRequest)
	return ok && d.span(auth.Prefix(r.GetKeyPrefix()))
}

// ofLookup covers a look-up in the registry. One that names no database shows the rows of
// all, and a summary counts them, whatever it names.
func ofLookup(d demand, req any) bool {
	r, ok := req.(*serverpb.GetClusterInfoRequest)
	if !ok {
		return false
	}
	if r.GetSummaryOnly() {
		return d.id.Knows("")
	}
	return d.id.Knows(r.GetDatabase())
}

// ofRows covers a heartbeat: rows of masters are a node's, those of slaves belong to the
// replication of their database.
func ofRows(d demand, req any) bool {
	r, ok := req.(*serverpb.UpdateStatusRequest)
	if !ok {
		return false
	}
	if r.GetRegionInfo() != nil && !ofRow(d, r.GetRegionInfo()) {
		return false
	}
	for _, row := range r.GetMore() {
		if !ofRow(d, row) {
			return false
		}
	}
	return true
}

func ofRow(d demand, row *serverpb.RegionInfo) bool {
	switch row.GetStatus() {
	case serverpb.RegionStatus_ACTIVE_SLAVE, serverpb.RegionStatus_INACTIVE:
		return d.in(row.GetDatabase()).all()
	default:
		return d.of(auth.Node).all()
	}
}

func ofRelease(d demand, req any) bool {
	r, ok := req.(*serverpb.ReleaseDatabaseRequest)
	return ok && d.in(r.GetDatabase()).all()
}

// recorded is a request about the record of a database.
type recorded interface{ GetDatabase() string }

func ofRecord(d demand, req any) bool {
	r, ok := req.(recorded)
	return ok && d.in(r.GetDatabase()).all()
}

// ofGetRecord covers a look at a record: any grant for its database is enough.
func ofGetRecord(d demand, req any) bool {
	r, ok := req.(recorded)
	return ok && d.id.Knows(r.GetDatabase())
}

func ofChange(d demand, req any) bool {
	r, ok := req.(*peerpb.ChangeRecordRequest)
	return ok && d.in(r.GetRecord().GetDatabase()).all()
}
