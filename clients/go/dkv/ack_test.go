package dkv

import (
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestAckOfARequestAndOfAClient: the higher one is sent, and the answer says what was reached.
func TestAckOfARequestAndOfAClient(t *testing.T) {
	cl := newCluster(t, 1, 1)
	ctx := testkit.Within(t, enough)
	plain, semi := ready(t, cl.addrs()), ready(t, cl.addrs(), WithAck(AckSemiSync))
	for _, one := range []struct {
		client *Client
		opts   []WriteOption
		want   Ack
	}{
		{plain, nil, AckDefault},
		{plain, []WriteOption{AckSync}, AckSync},
		{semi, nil, AckSemiSync},
		{semi, []WriteOption{AckAsync}, AckSemiSync},
		{semi, []WriteOption{AckSync}, AckSync},
	} {
		var a Answer
		if _, err := one.client.Put(ctx, []byte("k"), nil, append(one.opts, &a)...); err != nil || a.Acked != one.want || a.History != "h" {
			t.Errorf("%v: %+v, %v; want %v", one.opts, a, err, one.want)
		}
	}
	if _, err := semi.Delete(ctx, []byte("k")); err != nil || cl.nodes[0].asked.Load() != serverpb.AckLevel_ACK_SEMI_SYNC {
		t.Errorf("a delete asks for %v, %v", cl.nodes[0].asked.Load(), err)
	}
	if _, err := plain.MultiPut(ctx, Pair{Key: []byte("k")}); err != nil || cl.nodes[0].asked.Load() != serverpb.AckLevel_ACK_DEFAULT {
		t.Errorf("a multi-put asks for %v, %v", cl.nodes[0].asked.Load(), err)
	}
	if _, err := semi.MultiPut(ctx, Pair{Key: []byte("k")}); err != nil || cl.nodes[0].asked.Load() != serverpb.AckLevel_ACK_SEMI_SYNC {
		t.Errorf("a multi-put asks for %v, %v", cl.nodes[0].asked.Load(), err)
	}
}
