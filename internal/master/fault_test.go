package master

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/storage"
)

// TestFailedStorage: the first error says that the outcome is unknown, those
// behind it that nothing was done; reads go on.
func TestFailedStorage(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", "v")
	r.FailWrites(errors.New("input/output error"))
	put := &serverpb.PutRequest{Key: []byte("k"), Value: []byte("w")}
	_, err := r.Put(t.Context(), put)
	mastertest.WantStatus(t, err, codes.Internal,
		"storage failed: apply at index 2: memory engine: sync: input/output error (outcome unknown)")
	_, err = r.Put(t.Context(), put)
	mastertest.WantStatus(t, err, codes.Unavailable,
		"storage failed, only reads are served: apply at index 2: memory engine: sync: input/output error; repair it and restart, or restore a backup (not applied)")
	r.WantValue("k", "v")
	status, err := r.Ops.GetNodeStatus(t.Context(), &emptypb.Empty{})
	if err != nil || status.GetVBuckets()[0].GetState() != "failed" || !strings.Contains(status.GetVBuckets()[0].GetReason(), "input/output error") {
		t.Errorf("status %v, %v", status, err)
	}
}

func TestFullDisk(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", "v")
	r.FailWrites(storage.ErrNoSpace)
	put := &serverpb.PutRequest{Key: []byte("k"), Value: []byte("w")}
	for _, outcome := range []string{"(outcome unknown)", "(not applied)"} {
		_, err := r.Put(t.Context(), put)
		if status.Code(err) != codes.ResourceExhausted || !strings.HasSuffix(err.Error(), outcome) {
			t.Errorf("error %v, want %s", err, outcome)
		}
	}
	r.WantValue("k", "v")
}

func TestCancelledWrite(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Put(ctx, &serverpb.PutRequest{Key: []byte("k")})
	if status.Code(err) != codes.Canceled {
		t.Errorf("error %v", err)
	}
}

func TestCorruptionIsReported(t *testing.T) {
	r := newRig(t, func(o *local.Options, _ *Limits) {
		open := o.Open
		o.Open = func(dir string) (storage.Engine, error) {
			e, err := open(dir)
			return corruptEngine{e}, err
		}
	})
	r.MustPut("good", "v")
	r.MustPut("bad", "v")
	r.WantValue("good", "v")
	_, err := r.Get(t.Context(), &serverpb.GetRequest{Key: []byte("bad")})
	mastertest.WantStatus(t, err, codes.DataLoss, "read: block 7: stored data is corrupt")
	_, err = r.MultiGet(t.Context(), &serverpb.MultiGetRequest{Keys: [][]byte{[]byte("good"), []byte("bad")}})
	mastertest.WantStatus(t, err, codes.DataLoss, "read: block 7: stored data is corrupt")
}

// corruptEngine fails to read the key "bad".
type corruptEngine struct{ storage.Engine }

func (e corruptEngine) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if s == storage.Data && string(key) == "bad" {
		return nil, false, fmt.Errorf("block 7: %w", storage.ErrCorrupt)
	}
	return e.Engine.Get(s, key)
}

func (e corruptEngine) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	for _, key := range keys {
		if string(key) == "bad" {
			return nil, fmt.Errorf("block 7: %w", storage.ErrCorrupt)
		}
	}
	return e.Engine.MultiGet(s, keys)
}
