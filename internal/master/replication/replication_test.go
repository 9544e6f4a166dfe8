package replication

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
)

func (r *rig) changes(from uint64, limit uint32) (*serverpb.GetChangesResponse, error) {
	return r.Replication.GetChanges(r.T.Context(), &serverpb.GetChangesRequest{FromChangeNumber: from, MaxNumberOfChanges: limit})
}

func TestGetChanges(t *testing.T) {
	r := newRig(t)
	for i := range 5 {
		r.MustPut(fmt.Sprint("k", i), "v")
	}
	history := r.Local.Status().Identity.History
	for _, c := range []struct {
		from        uint64
		limit       uint32
		first, want uint64
	}{
		{0, 0, 1, 5}, // 0 means from the first, as many as the server likes
		{1, 0, 1, 5},
		{3, 0, 3, 3},
		{1, 2, 1, 2},
		{5, 100, 5, 1},
		{6, 0, 0, 0}, // nothing new is no error
		{math.MaxUint64, math.MaxUint32, 0, 0},
	} {
		resp, err := r.changes(c.from, c.limit)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if resp.GetMasterChangeNumber() != 5 || resp.GetHistoryId() != history || resp.GetStatus().GetCode() != 0 {
			t.Errorf("%+v: %v", c, resp)
		}
		if got := uint64(len(resp.GetChanges())); got != c.want || uint64(resp.GetNumberOfChanges()) != c.want {
			t.Errorf("%+v: %d changes", c, got)
		} else if c.want > 0 && resp.GetChanges()[0].GetChangeNumber() != c.first {
			t.Errorf("%+v: the first is %d", c, resp.GetChanges()[0].GetChangeNumber())
		}
	}
	resp, err := r.changes(2, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := &serverpb.ChangeRecord{
		ChangeNumber:  2,
		NumberOfTrxns: 1,
		Trxns:         []*serverpb.TrxnRecord{{Type: serverpb.TrxnRecord_Put, Key: []byte("k1"), Value: []byte("v")}},
		Clock:         mastertest.Epoch * 1000,
	}
	if !proto.Equal(resp.GetChanges()[0], want) {
		t.Errorf("%v, want %v", resp.GetChanges()[0], want)
	}
}

// forgetful is a copy whose storage is reopened at an earlier index while its changes are read.
type forgetful struct {
	replica.Replica
	age time.Duration
}

func (f *forgetful) Age() time.Duration { return f.age }

func (f *forgetful) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error) {
	f.age = replica.NeverFresh
	return f.Replica.Changes(ctx, from, limit, maxBytes)
}

// Changes that were read of an earlier state do not come with the age of the one before.
func TestGetChangesOfAReopenedCopy(t *testing.T) {
	r := newRig(t)
	r.Keyspace.All()[0].Replica = &forgetful{Replica: r.Local, age: time.Millisecond}
	resp, err := r.changes(1, 0)
	if err != nil || resp.GetAgeMillis() != uint64(replica.NeverFresh.Milliseconds()) {
		t.Errorf("an age of %d ms, %v", resp.GetAgeMillis(), err)
	}
}

// TestGetChangesFits: what is asked for without a limit fits a message of 4 MiB,
// the most that a gRPC client accepts by default, and never stands still.
func TestGetChangesFits(t *testing.T) {
	const mib = 1 << 20
	r := newRig(t, func(l *master.Limits) { l.Value, l.Batch, l.Response = 3*mib, 8*mib, 16*mib })
	var puts []*serverpb.PutRequest
	for i := range 5000 { // many small changes of one number
		puts = append(puts, &serverpb.PutRequest{Key: fmt.Append(nil, i), ExpireTS: math.MaxUint64})
	}
	total := uint64(0)
	for range 15 {
		resp, err := r.MultiPut(t.Context(), &serverpb.MultiPutRequest{PutRequest: puts})
		if err != nil {
			t.Fatal(err)
		}
		total = resp.GetIndex()
	}
	for range 3 {
		total = r.MustPut("big", strings.Repeat("v", 3*mib))
	}
	seen, calls := uint64(0), 0
	for seen < total {
		calls++
		resp, err := r.changes(seen+1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if size := proto.Size(resp); size > 4*mib {
			t.Errorf("a response of %d bytes", size)
		}
		if len(resp.GetChanges()) == 0 {
			t.Fatalf("nothing behind %d of %d", seen, total)
		}
		for _, c := range resp.GetChanges() {
			if seen++; c.GetChangeNumber() != seen {
				t.Fatalf("change %d behind %d", c.GetChangeNumber(), seen-1)
			}
		}
	}
	if calls > 10 {
		t.Errorf("it took %d calls", calls)
	}
}

// TestGetChangesOutOfRange asks for what a restore has made another history's.
func TestGetChangesOutOfRange(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	r.MustPut("a", "2")
	r.MustBackup("b1")
	r.MustRestore("b1")
	newest := r.Local.Status().Applied
	for _, from := range []uint64{0, 1, newest} {
		_, err := r.changes(from, 10)
		mastertest.WantStatus(t, err, codes.OutOfRange, fmt.Sprintf(
			"change %d is no longer retained: the oldest is %d; start over from a snapshot", max(from, 1), newest+1))
	}
	if resp, err := r.changes(newest+1, 10); err != nil || len(resp.GetChanges()) != 0 {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestGetChangesOfVBucket(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	for _, name := range []string{"", "default"} {
		resp, err := r.Replication.GetChanges(t.Context(), &serverpb.GetChangesRequest{VBucket: name})
		if err != nil || len(resp.GetChanges()) != 1 {
			t.Errorf("%q: %v, %v", name, resp, err)
		}
	}
	_, err := r.Replication.GetChanges(t.Context(), &serverpb.GetChangesRequest{VBucket: "other"})
	mastertest.WantStatus(t, err, codes.NotFound, `this node has no vBucket "other"; it has [default]`)
}
