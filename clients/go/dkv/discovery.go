package dkv

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// registryPoll is how often a registry is asked that cannot tell of changes by
// itself.
const registryPoll = time.Second

// followRegistry keeps to one registry after the other as long as the client is
// open. While there is none the nodes that are known stay.
func (l *learner) followRegistry() {
	ctx := l.client.ctx
	pause := unsettled
	for i := 0; ctx.Err() == nil; i++ {
		addrs := l.client.target.addrs
		n, err := l.client.node(addrs[i%len(addrs)])
		if err != nil {
			return // closed
		}
		heard, err := l.watchRegistry(ctx, n)
		if isUnimplemented(err) {
			heard, err = l.pollRegistry(ctx, n)
		}
		if heard {
			pause = unsettled
		}
		l.lostRegistry(err)
		if !sleepOr(ctx, jitter(pause), nil) {
			return
		}
		pause = min(2*pause, maxSilence)
	}
}

func (l *learner) lostRegistry(err error) {
	l.mu.Lock()
	first := l.registry == nil
	l.registry = err
	l.mu.Unlock()
	if first && l.client.ctx.Err() == nil {
		l.client.opts.log.Warn("registry is lost", "error", err)
	}
	l.client.changed.fire()
}

func (l *learner) registryRequest() *serverpb.GetClusterInfoRequest {
	req := &serverpb.GetClusterInfoRequest{}
	if l.client.opts.database != "" {
		req.Database = &l.client.opts.database
	}
	return req
}

// watchRegistry takes what a registry tells until that ends. heard tells whether it
// told anything.
func (l *learner) watchRegistry(ctx context.Context, n *node) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := n.stream(ctx, serverpb.DKVDiscovery_WatchClusterInfo_FullMethodName, l.registryRequest())
	if err != nil {
		return false, toError(err, n.addr, false)
	}
	rows := make(registryRows)
	for {
		change := new(serverpb.ClusterInfoChange)
		if err := s.Recv(change); errors.Is(err, io.EOF) {
			return heard, errorf(ErrUnavailable, "registry %s ended the stream", n.addr)
		} else if err != nil {
			return heard, toError(err, n.addr, false)
		}
		rows.apply(change)
		heard = heard || change.GetComplete()
		if heard { // what is not there before that may come yet
			l.tookRegistry(rows)
		}
	}
}

// pollRegistry asks a registry until that fails.
func (l *learner) pollRegistry(ctx context.Context, n *node) (heard bool, err error) {
	for {
		var resp serverpb.GetClusterInfoResponse
		limited, cancel := context.WithTimeout(ctx, probeTime)
		err := n.invoke(limited, serverpb.DKVDiscovery_GetClusterInfo_FullMethodName, l.registryRequest(), &resp)
		cancel()
		if err != nil {
			return heard, toError(err, n.addr, false)
		}
		heard = true
		rows := make(registryRows)
		rows.apply(&serverpb.ClusterInfoChange{Rows: resp.GetRegionInfos()})
		l.tookRegistry(rows)
		if !sleepOr(ctx, jitter(registryPoll), nil) {
			return heard, context.Cause(ctx)
		}
	}
}

func (l *learner) tookRegistry(rows registryRows) {
	l.mu.Lock()
	l.registry = nil
	l.mu.Unlock()
	l.members(rows.members())
	l.poke()
}

// registryRows are the rows of a registry that are alive.
type registryRows map[registryKey]*serverpb.RegionInfo

type registryKey struct{ dc, database, vBucket, address string }

func keyOfRow(r *serverpb.RegionInfo) registryKey {
	return registryKey{r.GetDcID(), r.GetDatabase(), r.GetVBucket(), r.GetNodeAddress()}
}

func (rows registryRows) apply(c *serverpb.ClusterInfoChange) {
	for _, r := range c.GetRows() {
		rows[keyOfRow(r)] = r
	}
	for _, r := range c.GetGone() {
		delete(rows, keyOfRow(r))
	}
}

// members returns the data centres of the nodes by their addresses. A node that
// lags or closes is no member: its row says INACTIVE, or is not there.
func (rows registryRows) members() map[string]string {
	out := make(map[string]string)
	for key, r := range rows {
		if r.GetStatus() != serverpb.RegionStatus_INACTIVE {
			out[key.address] = key.dc
		}
	}
	return out
}
