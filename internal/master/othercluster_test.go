package master

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
)

// TestRequestsForAnotherCluster sends each request with the cluster of the node, which is
// served, and with another one, which is refused and has no effect.
func TestRequestsForAnotherCluster(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	st, err := r.Ops.GetNodeStatus(ctx, &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	id := st.GetVBuckets()[0].GetClusterId()
	if id == "" || id != r.Local.Cluster() {
		t.Fatalf("cluster %q", id)
	}
	key, value := []byte("k"), []byte("v")
	for name, call := range map[string]func(cluster uint64) error{
		"Put": func(c uint64) error {
			_, err := r.Put(ctx, &serverpb.PutRequest{Key: key, Value: value, Cluster: c})
			return err
		},
		"MultiPut": func(c uint64) error {
			_, err := r.MultiPut(ctx, &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{{Key: key, Value: value}}, Cluster: c})
			return err
		},
		"Delete": func(c uint64) error {
			_, err := r.Delete(ctx, &serverpb.DeleteRequest{Key: key, Cluster: c})
			return err
		},
		"CompareAndSet": func(c uint64) error {
			_, err := r.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: []byte("c"), NewValue: value, Cluster: c})
			return err
		},
		"Increment": func(c uint64) error {
			_, err := r.Increment(ctx, &serverpb.IncrementRequest{Key: []byte("n"), Delta: 1, Cluster: c})
			return err
		},
		"Get": func(c uint64) error {
			_, err := r.Get(ctx, &serverpb.GetRequest{Key: key, Cluster: c})
			return err
		},
		"MultiGet": func(c uint64) error {
			_, err := r.MultiGet(ctx, &serverpb.MultiGetRequest{Keys: [][]byte{key}, Cluster: c})
			return err
		},
		"Iterate": func(c uint64) error {
			s, err := r.Iterate(ctx, &serverpb.IterateRequest{Cluster: c})
			if err != nil {
				return err
			}
			for err == nil {
				_, err = s.Recv()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.Local.Status().Applied
			err := call(xxhash.Sum64String("another"))
			if status.Code(err) != codes.FailedPrecondition || mastertest.Reason(err) != kv.ReasonOtherCluster || !strings.Contains(err.Error(), id) {
				t.Errorf("%v, reason %q", err, mastertest.Reason(err))
			}
			if after := r.Local.Status().Applied; after != before {
				t.Errorf("index %d after %d", after, before)
			}
			for _, c := range []uint64{0, xxhash.Sum64String(id)} {
				if err := call(c); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
