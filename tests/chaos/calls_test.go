package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// The calls here are made until they succeed, for faults that need one write or read to
// have been done: an election may be under way, or the node may be the one that dies.

// mutate makes a call until it is acknowledged. An attempt may have been applied although
// it failed, so all attempts are one request: the response is that of the first attempt
// that was applied.
func (n *node) mutate(what string, call func(context.Context, *serverpb.RequestID) error) {
	n.c.t.Helper()
	id := &serverpb.RequestID{ClientId: rand.Uint64(), Sequence: 1}
	n.repeat(what+" is acknowledged", func(ctx context.Context) error {
		err := call(ctx, id)
		id.Repeat = true
		return err
	})
}

// repeat makes a call until it succeeds.
func (n *node) repeat(what string, call func(context.Context) error) {
	n.c.t.Helper()
	var err error
	if !testkit.Soon(func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = call(ctx)
		return err == nil
	}) {
		n.c.t.Fatalf("not within %v: %s; node %d says %v", testkit.Patience, what, n.number, err)
	}
}

// put writes a key, which expires at a time in epoch seconds or never (0), and returns the
// write's index.
func (n *node) put(key, value string, expiry int64) (index uint64) {
	n.c.t.Helper()
	n.mutate("the write of "+key, func(ctx context.Context, id *serverpb.RequestID) error {
		resp, err := n.kv().Put(ctx, &serverpb.PutRequest{Key: []byte(key), Value: []byte(value), ExpireTS: uint64(expiry), RequestId: id}, grpc.WaitForReady(true))
		index = resp.GetIndex()
		return err
	})
	return index
}

// compareAndSet returns the index of the comparison, whatever its result.
func (n *node) compareAndSet(key, old, value string) (index uint64) {
	n.c.t.Helper()
	n.mutate("the comparison of "+key, func(ctx context.Context, id *serverpb.RequestID) error {
		resp, err := n.kv().CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: []byte(key), OldValue: []byte(old), NewValue: []byte(value), RequestId: id}, grpc.WaitForReady(true))
		index = resp.GetIndex()
		return err
	})
	return index
}

// awaitIndex waits until the node has applied an index.
func (n *node) awaitIndex(index uint64) {
	n.c.t.Helper()
	n.repeat(fmt.Sprintf("index %d is applied", index), func(ctx context.Context) error {
		_, err := n.kv().Get(ctx, &serverpb.GetRequest{Key: []byte("any"), MinIndex: index}, grpc.WaitForReady(true))
		return err
	})
}

// transfer asks a node to transfer the leadership to another one.
func (n *node) transfer(to *node) {
	n.c.t.Helper()
	n.repeat(fmt.Sprintf("node %d leads", to.number), func(ctx context.Context) error {
		_, err := n.admin().TransferLeader(ctx, &serverpb.TransferLeaderRequest{NodeUrl: to.url}, grpc.WaitForReady(true))
		return err
	})
}
