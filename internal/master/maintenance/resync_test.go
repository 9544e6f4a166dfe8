package maintenance

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
)

// resynced is a copy that notes what is ordered.
type resynced struct {
	replica.Replica
	kept    bool
	ordered []bool
}

func (r *resynced) Ordered() bool { return len(r.ordered) > 0 }

func (r *resynced) CancelResync(context.Context) (string, error) {
	if !r.Ordered() {
		return "", kv.Errorf(kv.Precondition, "it has no order")
	}
	r.ordered = nil
	return "it stays", nil
}

func (r *resynced) Kept() bool { return r.kept }

func (r *resynced) Resync(_ context.Context, force bool) (string, error) {
	if !r.kept && !force {
		return "", kv.Errorf(kv.Precondition, "it is well")
	}
	r.ordered = append(r.ordered, force)
	return "it goes", nil
}

// An order without a name is for the copies that wait for one, with a name or force also
// for others, and for nothing but a slave.
func TestResync(t *testing.T) {
	for _, tc := range []struct {
		name    string
		kept    []bool
		request *serverpb.ResyncRequest
		want    string // the vBuckets, or the error
	}{
		{"all that wait", []bool{true, false, true}, &serverpb.ResyncRequest{}, "v0 v2"},
		{"the only one", []bool{true}, &serverpb.ResyncRequest{}, "v0"},
		{"the only one, which is well", []bool{false}, &serverpb.ResyncRequest{}, "it is well"},
		{"none waits", []bool{false, false}, &serverpb.ResyncRequest{}, "none of 2 vBuckets"},
		{"the named one", []bool{true, true}, &serverpb.ResyncRequest{VBucket: "v1"}, "v1"},
		{"the named one, which is well", []bool{true, false}, &serverpb.ResyncRequest{VBucket: "v1"}, "it is well"},
		{"one that is not there", []bool{true}, &serverpb.ResyncRequest{VBucket: "x"}, `no vBucket "x"`},
		{"forced", []bool{true, false}, &serverpb.ResyncRequest{Force: true}, "v0 v1"},
	} {
		var parts []route.VBucket
		for i, kept := range tc.kept {
			parts = append(parts, route.VBucket{Name: "v" + string(rune('0'+i)), Replica: &resynced{kept: kept}})
		}
		resp, err := New(route.NewKeyspace(parts...), NodeInfo{Role: "slave"}, nil).Resync(t.Context(), tc.request)
		var names []string
		for _, o := range resp.GetOrders() {
			names = append(names, o.GetVBucket())
		}
		if err == nil && strings.Join(names, " ") != tc.want || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %q, %v", tc.name, names, err)
		}
		for _, p := range parts {
			if got := len(p.Replica.(*resynced).ordered) > 0; got != slices.Contains(names, p.Name) {
				t.Errorf("%s: %s was ordered to go: %v", tc.name, p.Name, got)
			}
		}
	}
}

// Without a name the orders of all vBuckets that have one are withdrawn.
func TestCancelResync(t *testing.T) {
	parts := make([]route.VBucket, 3)
	for i := range parts {
		parts[i] = route.VBucket{Name: "v" + string(rune('0'+i)), Replica: &resynced{kept: i != 1}}
	}
	n := New(route.NewKeyspace(parts...), NodeInfo{Role: "slave"}, nil)
	if _, err := n.Resync(t.Context(), &serverpb.ResyncRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ name, want string }{
		{"v1", "it has no order"}, {"v2", "v2"}, {"", "v0"}, {"", "none of 3 vBuckets has an order"},
	} {
		resp, err := n.CancelResync(t.Context(), &serverpb.CancelResyncRequest{VBucket: step.name})
		var names []string
		for _, o := range resp.GetOrders() {
			names = append(names, o.GetVBucket())
		}
		if err == nil && strings.Join(names, " ") != step.want || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Errorf("%q: %q, %v; want %q", step.name, names, err, step.want)
		}
	}
}

func TestResyncIsForSlaves(t *testing.T) {
	r := newRig(t)
	for _, force := range []bool{false, true} {
		_, err := r.Ops.Resync(t.Context(), &serverpb.ResyncRequest{Force: force})
		if err == nil || !strings.Contains(err.Error(), "this node has role none and keeps no copy of another node's data; -resync is for a slave") {
			t.Error(err)
		}
	}
}
