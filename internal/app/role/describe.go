package role

import (
	"strconv"
	"strings"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/accesslog"
)

// Describe completes a line of the access log by what a request says: its vBucket, its id
// and the level that it asks for.
func (s *Services) Describe(req any, n *accesslog.Line) {
	n.VBucket = s.vBucketOf(req)
	if r, is := req.(interface{ GetRequestId() *serverpb.RequestID }); is && r.GetRequestId() != nil {
		id := r.GetRequestId()
		n.RequestID = strconv.FormatUint(id.ClientId, 16) + "-" + strconv.FormatUint(id.Sequence, 10)
	}
	if r, is := req.(interface {
		GetReadConsistency() serverpb.ReadConsistency
	}); is {
		n.ReadLevel = strings.ToLower(r.GetReadConsistency().String())
	}
	if r, is := req.(interface{ GetAck() serverpb.AckLevel }); is {
		n.AckLevel = strings.ToLower(strings.TrimPrefix(r.GetAck().String(), "ACK_"))
	}
}

// vBucketOf returns the name of the vBucket that a request names, or of the one that its
// first key is in; "" if it is about none, or about all.
func (s *Services) vBucketOf(req any) string {
	switch of := req.(type) {
	case interface{ GetVBucket() string }:
		return of.GetVBucket()
	case interface{ GetKey() []byte }:
		return s.keyspace.Of(of.GetKey()).Name
	case interface{ GetKeys() [][]byte }:
		return s.keyspace.First(of.GetKeys()).Name
	case *serverpb.MultiPutRequest:
		if puts := of.GetPutRequest(); len(puts) > 0 {
			return s.keyspace.Of(puts[0].GetKey()).Name
		}
	}
	return ""
}
