package replication

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/compress"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// changesResponse translates a stretch of changes. Their messages are allocated together: a
// stretch may hold many thousands. requests says whether the asker wants the requests that
// caused them.
func changesResponse(c *fsm.Changes, age time.Duration, requests bool) *serverpb.GetChangesResponse {
	resp := &serverpb.GetChangesResponse{
		Status:             &serverpb.Status{},
		MasterChangeNumber: c.Newest,
		NumberOfChanges:    uint32(len(c.Changes)),
		Changes:            make([]*serverpb.ChangeRecord, len(c.Changes)),
		HistoryId:          c.History,
		ClusterId:          c.Cluster,
		MasterClock:        uint64(c.Clock),
		AgeMillis:          uint64(age.Milliseconds()),
	}
	trxns := 0
	for i := range c.Changes {
		trxns += len(c.Changes[i].Mutations)
	}
	records := make([]serverpb.ChangeRecord, len(c.Changes))
	trxnRecords, trxnList := make([]serverpb.TrxnRecord, trxns), make([]*serverpb.TrxnRecord, trxns)
	for i := range c.Changes {
		n := len(c.Changes[i].Mutations)
		resp.Changes[i] = &records[i]
		fillRecord(&records[i], &c.Changes[i], trxnRecords[:n], trxnList[:n:n])
		if requests {
			records[i].Request = requestOf(&c.Changes[i])
		}
		trxnRecords, trxnList = trxnRecords[n:], trxnList[n:]
	}
	return resp
}

// lineage translates the histories before the current one.
func lineage(former []fsm.Former) []*serverpb.FormerHistory {
	out := make([]*serverpb.FormerHistory, len(former))
	for i, f := range former {
		out[i] = &serverpb.FormerHistory{HistoryId: f.History, End: f.End}
	}
	return out
}

// requestOf translates the request of a change; nil if it has none.
func requestOf(c *kv.Change) *serverpb.ChangeRequest {
	r := c.Request
	if r == nil {
		return nil
	}
	return &serverpb.ChangeRequest{
		Client: r.ID.Client, Sequence: r.ID.Sequence, Acked: r.ID.Acked,
		Fingerprint: r.Fingerprint, Code: uint32(r.Code), Counter: r.Counter,
	}
}

// fillRecord translates a change into rec, its mutations into trxns, and points
// list at these.
func fillRecord(rec *serverpb.ChangeRecord, c *kv.Change, trxns []serverpb.TrxnRecord, list []*serverpb.TrxnRecord) {
	rec.ChangeNumber, rec.Clock = c.Index, uint64(c.Clock)
	rec.NumberOfTrxns, rec.Trxns = uint32(len(trxns)), list
	for i := range trxns {
		m, t := &c.Mutations[i], &trxns[i]
		t.Type, t.Key, t.Value, t.ExpireTS = serverpb.TrxnRecord_Put, m.Key, m.Value, m.ExpireTS
		if m.Delete {
			t.Type = serverpb.TrxnRecord_Delete
		}
		list[i] = t
	}
}

// sendChanges sends a stretch. The server encodes the message before it waits for the receiver;
// the changes, which take several times the memory, are released before that.
func sendChanges(stream grpc.ServerStream, c *fsm.Changes, age time.Duration, how encoding) error {
	resp := changesResponse(c, age, how.requests)
	c.Changes = nil
	if how.zstd {
		if err := shrink(resp); err != nil {
			return err
		}
	}
	return stream.SendMsg(resp)
}

// encoding is how changes are sent.
type encoding struct {
	// requests adds the requests that caused them, zstd compresses them.
	requests, zstd bool
}

// shrink compresses the changes of a response, if that is worth it.
func shrink(resp *serverpb.GetChangesResponse) error {
	if len(resp.GetChanges()) == 0 {
		return nil
	}
	plain, err := proto.Marshal(&serverpb.GetChangesResponse{Changes: resp.GetChanges()})
	if err != nil {
		return fmt.Errorf("encode changes: %w", err)
	}
	if packed := compress.Encode(plain); packed != nil {
		resp.ZstdChanges, resp.Changes = packed, nil
	}
	return nil
}
