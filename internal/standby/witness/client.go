// Package witness is the side of nodes towards the record of their database in the registry
// (package record of discovery): masters keep its lease and answer only while they have it,
// standbys find out when they may claim the next era. The rules are in the DESIGN.md of
// package standby, A5, A7 and P4.
package witness

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// Registry answers what the service Witness is asked.
type Registry interface {
	GetRecord(ctx context.Context, r *peerpb.GetRecordRequest) (*peerpb.RecordResponse, error)
	Renew(ctx context.Context, r *peerpb.RenewRequest) (*peerpb.RenewResponse, error)
	ChangeRecord(ctx context.Context, r *peerpb.ChangeRecordRequest) (*peerpb.RecordResponse, error)
	Claim(ctx context.Context, r *peerpb.ClaimRequest) (*peerpb.ClaimResponse, error)
}

// Client asks the nodes of a registry, any of which forwards to the owner of its log.
type Client struct {
	pool  *peer.Pool
	addrs []string
	// patience bounds the wait for one node: another one is asked then.
	patience time.Duration
	// present is the number of the node that is asked first.
	present atomic.Uint64
}

var _ Registry = (*Client)(nil)

// NewClient returns a Client of the nodes at some addresses, host:port each. A
// lease of the given length must not end because one of them does not answer; 0 if none is
// asked for. The pool stays the caller's.
func NewClient(pool *peer.Pool, addrs []string, lease time.Duration) *Client {
	c := &Client{pool: pool, addrs: addrs, patience: perNode}
	if lease > 0 {
		c.patience = min(max(lease/share, leastPerNode), perNode)
	}
	return c
}

// perNode bounds the wait for one node: an owner of its log is elected meanwhile.
const perNode, leastPerNode = 3 * time.Second, 250 * time.Millisecond

// call asks one node after the other until one answers.
func (c *Client) call(ctx context.Context, method string, in, out proto.Message) error {
	return c.callUpTo(ctx, len(c.addrs), method, in, out)
}

// callUpTo is call that asks some nodes at most. The next call begins with the one after those.
func (c *Client) callUpTo(ctx context.Context, most int, method string, in, out proto.Message) error {
	if len(c.addrs) == 0 {
		return kv.Errorf(kv.Invalid, "no node of the registry is configured (discovery-service-addr)")
	}
	var err error
	for range most {
		at := c.present.Load()
		if err = c.ask(ctx, c.addrs[at%uint64(len(c.addrs))], method, in, out); err == nil || answered(err) || ctx.Err() != nil {
			return err
		}
		c.present.CompareAndSwap(at, at+1)
	}
	return err
}

func (c *Client) ask(ctx context.Context, addr, method string, in, out proto.Message) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	proto.Reset(out)
	return c.pool.Call(ctx, addr, method, in, out)
}

// answered reports whether an error is an answer that every node would give. A limit of one node, which
// says when to retry, is none, nor is what a node says of callers: each reads an auth-file of its own.
func answered(err error) bool {
	if !peer.Answered(err) {
		return false
	}
	switch kv.KindOf(err) {
	case kv.Unavailable, kv.NotOwner, kv.Internal, kv.Unauthenticated, kv.Denied:
		return false
	case kv.Exhausted:
		return kv.RetryAfterOf(err) == 0
	default:
		return true
	}
}

// GetRecord implements Registry.
func (c *Client) GetRecord(ctx context.Context, r *peerpb.GetRecordRequest) (*peerpb.RecordResponse, error) {
	out := new(peerpb.RecordResponse)
	return out, c.call(ctx, peerpb.Witness_GetRecord_FullMethodName, r, out)
}

// Renew implements Registry. It asks one node: one that does not answer may have granted a lease all
// the same, so that a caller who hears nothing while it is heard must not ask all of them.
func (c *Client) Renew(ctx context.Context, r *peerpb.RenewRequest) (*peerpb.RenewResponse, error) {
	out := new(peerpb.RenewResponse)
	return out, c.callUpTo(ctx, 1, peerpb.Witness_Renew_FullMethodName, r, out)
}

// ChangeRecord implements Registry.
func (c *Client) ChangeRecord(ctx context.Context, r *peerpb.ChangeRecordRequest) (*peerpb.RecordResponse, error) {
	out := new(peerpb.RecordResponse)
	return out, c.call(ctx, peerpb.Witness_ChangeRecord_FullMethodName, r, out)
}

// Claim implements Registry.
func (c *Client) Claim(ctx context.Context, r *peerpb.ClaimRequest) (*peerpb.ClaimResponse, error) {
	out := new(peerpb.ClaimResponse)
	return out, c.call(ctx, peerpb.Witness_Claim_FullMethodName, r, out)
}
