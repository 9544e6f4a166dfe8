package witness

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// unheard is a node of the registry whose answers do not arrive in time.
type unheard struct {
	peerpb.UnimplementedWitnessServer
	atomic.Int64 // how many leases were asked for
}

func (u *unheard) Renew(ctx context.Context, _ *peerpb.RenewRequest) (*peerpb.RenewResponse, error) {
	u.Add(1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (u *unheard) GetRecord(ctx context.Context, _ *peerpb.GetRecordRequest) (*peerpb.RecordResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// rejecting is a node of the registry that answers every caller with an error.
type rejecting struct {
	peerpb.UnimplementedWitnessServer
	err error
}

func (r rejecting) GetRecord(context.Context, *peerpb.GetRecordRequest) (*peerpb.RecordResponse, error) {
	return nil, r.err
}

// answering is one that answers.
type answering struct {
	peerpb.UnimplementedWitnessServer
}

func (answering) GetRecord(context.Context, *peerpb.GetRecordRequest) (*peerpb.RecordResponse, error) {
	return new(peerpb.RecordResponse), nil
}

// What one node says of its own load or of callers is not what another one would say.
func TestNextNodeIsAsked(t *testing.T) {
	pool := peer.NewPool(peer.Options{MaxMessageSize: 1 << 20})
	t.Cleanup(func() { _ = pool.Close() })
	serve := func(w peerpb.WitnessServer) string {
		return servertest.Start(t, servertest.Options{Register: func(r grpc.ServiceRegistrar) { peerpb.RegisterWitnessServer(r, w) }}).Addr
	}
	good := serve(answering{})
	for _, c := range []struct {
		err  error
		next bool
	}{
		{&kv.Error{Kind: kv.Exhausted, RetryAfter: time.Second, Err: errors.New("max-requests-in-flight")}, true},
		{kv.Errorf(kv.Denied, "the token has no role"), true},
		{kv.Errorf(kv.Unauthenticated, "an unknown token"), true},
		{kv.Errorf(kv.Exhausted, "the registry has 1000 records"), false},
		{kv.Errorf(kv.Precondition, "the record is newer"), false},
	} {
		registry := NewClient(pool, []string{serve(rejecting{err: c.err}), good}, 0)
		if _, err := registry.GetRecord(testkit.Within(t, testkit.Patience), new(peerpb.GetRecordRequest)); (err == nil) != c.next {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}

// TestUnheardLeasesAreFew: a master that hears nothing while it is heard asks one node of the registry
// for one lease, and from then on without effect: each lease keeps the standby waiting.
func TestUnheardLeasesAreFew(t *testing.T) {
	nodes := make([]unheard, 3)
	var addrs []string
	for i := range nodes {
		addrs = append(addrs, servertest.Start(t, servertest.Options{Register: func(r grpc.ServiceRegistrar) { peerpb.RegisterWitnessServer(r, &nodes[i]) }}).Addr)
	}
	pool := peer.NewPool(peer.Options{MaxMessageSize: 1 << 20})
	t.Cleanup(func() { _ = pool.Close() })
	o := newOffice()
	k := keeps(o, &log{owns: true})
	k.opts.Registry = NewClient(pool, addrs, leastPerNode)
	ctx := testkit.Within(t, testkit.Patience)
	for range 2 {
		if err := k.renew(ctx); err == nil {
			t.Fatal("a lease that no one has granted")
		}
	}
	renewals := int64(0)
	for i := range nodes {
		renewals += nodes[i].Load()
	}
	if renewals > 1 {
		t.Errorf("%d leases were asked for", renewals)
	}
}
