package master

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
)

// An iteration that stalled leaves no key out when it is resumed where its error says,
// one by one and batched, forwards and backwards. It may repeat those of the message that
// was being sent.
func TestStalledIterationIsResumed(t *testing.T) {
	r := newRig(t)
	var keys []string
	for i := range 1000 {
		keys = append(keys, fmt.Sprintf("k%04d", i))
		r.MustPut(keys[i], strings.Repeat("v", 900))
	}
	conn, ended := mastertest.Impatient(t, &serverpb.DKV_ServiceDesc, NewKV(r.Keyspace, limits, nil))
	client := serverpb.NewDKVClient(conn)
	for _, req := range []*serverpb.IterateRequest{{}, {Batched: true}, {Reverse: true}, {Reverse: true, Batched: true}} {
		var got []string
		take := func(m *serverpb.IterateResponse) {
			if len(m.GetKey()) > 0 {
				got = append(got, string(m.GetKey()))
			}
			for _, p := range m.GetPairs() {
				got = append(got, string(p.GetKey()))
			}
		}
		req.KeyPrefix = []byte("k")
		s, err := client.Iterate(t.Context(), req)
		err = mastertest.Stall(t, s, err, ended, take)
		first := len(got)
		if req.StartKey, err = base64.StdEncoding.DecodeString(mastertest.ResumeOf(t, err)[kv.ResumeStartKey]); err != nil || len(req.StartKey) == 0 {
			t.Fatal(err)
		}
		at := slices.Index(got, string(req.StartKey)) // of what has come after all
		if at < 0 {
			at = first
		}
		got = got[:at]
		rest, err := r.Iterate(t.Context(), req)
		for err == nil {
			var m *serverpb.IterateResponse
			if m, err = rest.Recv(); err == nil {
				take(m)
			}
		}
		want := slices.Clone(keys)
		if req.Reverse {
			slices.Reverse(want)
		}
		if !errors.Is(err, io.EOF) || !slices.Equal(got, want) || first == len(want) {
			t.Errorf("%v: %d keys, resumed behind %d, then %d in all, and %v", req, first, at, len(got), err)
		}
	}
}
