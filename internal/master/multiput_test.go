package master

import (
	"context"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

// TestMultiPutAcrossVBuckets writes to a database of four vBuckets: one multi-put to one of
// them, and to several only if the caller allows it.
func TestMultiPutAcrossVBuckets(t *testing.T) {
	rigs := []*rig{newRig(t), newRig(t), newRig(t), newRig(t)}
	var vs []route.VBucket
	for i, r := range rigs {
		vs = append(vs, route.VBucket{Name: string(rune('a' + i)), Replica: r.Local})
	}
	k := route.NewKeyspace(vs...)
	// A multi-put is atomic within one vBucket only.
	s := NewKV(k, limits, nil)
	put := func(keys ...string) error {
		req := &serverpb.MultiPutRequest{}
		for _, key := range keys {
			req.PutRequest = append(req.PutRequest, &serverpb.PutRequest{Key: []byte(key), Value: []byte("v")})
		}
		_, err := s.MultiPut(context.Background(), req)
		return err
	}
	const want = `keys "a" and "abc" are in different vBuckets, d and b; a multi-put is atomic within one only; split it, or set maySplit (dkvctl: -split), which gives atomicity up between vBuckets (not applied)`
	if err := put("a", "abc"); kv.KindOf(err) != kv.Invalid || err.Error() != want {
		t.Errorf("%v", err)
	}
	if err := put("abc", "abc"); err != nil {
		t.Error(err)
	}
	rigs[1].WantValue("abc", "v")
	rigs[3].WantAbsent("abc")

	// It may be split if the caller says so.
	resp, err := s.MultiPut(context.Background(), &serverpb.MultiPutRequest{MaySplit: true, PutRequest: []*serverpb.PutRequest{
		{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("abc"), Value: []byte("2")},
	}})
	if err != nil || resp.GetIndex() != 0 {
		t.Errorf("index %d, %v", resp.GetIndex(), err)
	}
	rigs[3].WantValue("a", "1")
	rigs[1].WantValue("abc", "2")
	// What one vBucket rejects the others may have written.
	if _, err := rigs[1].Local.Propose(context.Background(), &command.Command{Kind: command.SetPaused, Flag: true}); err != nil {
		t.Fatal(err)
	}
	_, err = s.MultiPut(context.Background(), &serverpb.MultiPutRequest{MaySplit: true, PutRequest: []*serverpb.PutRequest{
		{Key: []byte("a"), Value: []byte("3")}, {Key: []byte("abc"), Value: []byte("4")},
	}})
	if kv.OutcomeOf(err) != kv.Unknown || !strings.Contains(err.Error(), "1 of 2 vBuckets are written") {
		t.Errorf("%v", err)
	}
	rigs[3].WantValue("a", "3")
	rigs[1].WantValue("abc", "2")
}
