package dkv

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// registryPoll is how often a registry is asked that cannot tell of changes by
// itself.
const registryPoll = time.Second

// steady is how long a registry has to be heard for the next one to be asked at once.
// What ends sooner again and again is asked ever more seldom, whatever it told.
const steady = 5 * time.Second

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
		began := time.Now()
		err = l.watchRegistry(ctx, n)
		if isUnimplemented(err) {
			err = l.pollRegistry(ctx, n)
		}
		if time.Since(began) >= steady {
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

// watchRegistry takes what a registry tells until that ends.
func (l *learner) watchRegistry(ctx context.Context, n *node) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := n.stream(ctx, serverpb.DKVDiscovery_WatchClusterInfo_FullMethodName, l.registryRequest())
	if err != nil {
		return toError(err, n.addr, false)
	}
	rows, heard := make(registryRows), false
	for {
		change := new(serverpb.ClusterInfoChange)
		if err := s.Recv(change); errors.Is(err, io.EOF) {
			return errorf(ErrUnavailable, "registry %s ended the stream", n.addr)
		} else if err != nil {
			return toError(err, n.addr, false)
		}
		rows.apply(change, l.client.opts.database)
		heard = heard || change.GetComplete()
		signOfLife := !change.GetComplete() && len(change.GetRows()) == 0 && len(change.GetGone()) == 0
		if heard && !signOfLife { // what is not there before that may come yet
			l.tookRegistry(rows)
		}
	}
}

// pollRegistry asks a registry until that fails.
func (l *learner) pollRegistry(ctx context.Context, n *node) error {
	for {
		var resp serverpb.GetClusterInfoResponse
		limited, cancel := context.WithTimeout(ctx, probeTime)
		err := n.invoke(limited, serverpb.DKVDiscovery_GetClusterInfo_FullMethodName, l.registryRequest(), &resp)
		cancel()
		if err != nil {
			return toError(err, n.addr, false)
		}
		rows := make(registryRows)
		rows.apply(&serverpb.ClusterInfoChange{Rows: resp.GetRegionInfos()}, l.client.opts.database)
		l.tookRegistry(rows)
		if !sleepOr(ctx, jitter(registryPoll), nil) {
			return context.Cause(ctx)
		}
	}
}

// tookRegistry takes the rows of a registry as they are now.
func (l *learner) tookRegistry(rows registryRows) {
	all, err := l.candidates(rows)
	l.mu.Lock()
	l.registry = err
	l.mu.Unlock()
	if err != nil {
		l.client.changed.fire()
		return
	}
	if l.members(all) { // a registry that is polled tells the same again and again
		l.pokeLater()
	}
}

// candidates are the nodes that the rows tell of, of one database and of the cluster
// that the client is bound to. A node that lags or closes is none: its row says INACTIVE,
// or is not there.
func (l *learner) candidates(rows registryRows) ([]candidate, error) {
	if names := rows.databases(); len(names) > 1 {
		return nil, errorf(ErrInvalid, "the registry has several databases, such as %q and %q: name one (WithDatabase)", names[0], names[1])
	}
	usual := rows.usual()
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make(map[string]candidate)
	for key, r := range rows {
		if r.GetStatus() == serverpb.RegionStatus_INACTIVE {
			continue
		}
		id, known := r.GetClusterID(), l.binding.ids[key.vBucket]
		if known == "" {
			known = usual[key.vBucket]
		}
		if id != "" && known != "" && id != known {
			l.met(errorf(ErrOtherCluster, "the registry tells of node %s of cluster %s; this client is bound to cluster %s"+acceptOther,
				key.address, id, l.binding.name()))
			continue
		}
		c := candidate{addr: key.address, dc: key.dc, slave: r.GetStatus() == serverpb.RegionStatus_ACTIVE_SLAVE}
		if r.GetStatus() != serverpb.RegionStatus_LEADER {
			c.rank = rankUnknown
		}
		if before, there := found[c.addr]; !there || c.rank < before.rank {
			found[c.addr] = c
		}
	}
	return slices.Collect(maps.Values(found)), nil
}

// maxRows bounds the rows that a client remembers of a registry, maxName their texts.
const (
	maxRows = 1 << 16
	maxName = 512
)

// registryRows are the rows of a registry that are alive.
type registryRows map[registryKey]*serverpb.RegionInfo

type registryKey struct{ dc, database, vBucket, address string }

func keyOfRow(r *serverpb.RegionInfo) registryKey {
	return registryKey{r.GetDcID(), r.GetDatabase(), r.GetVBucket(), r.GetNodeAddress()}
}

// apply takes a change. Rows that nothing can be done with are left out: anything may
// have been registered.
func (rows registryRows) apply(c *serverpb.ClusterInfoChange, database string) {
	for _, r := range c.GetGone() {
		delete(rows, keyOfRow(r))
	}
	for _, r := range c.GetRows() {
		key := keyOfRow(r)
		usable := dialable(key.address) && len(key.dc) <= maxName && len(key.vBucket) <= maxName && len(key.database) <= maxName && len(r.GetClusterID()) <= maxName
		if _, there := rows[key]; usable && (there || len(rows) < maxRows) && (database == "" || key.database == database) {
			rows[key] = &serverpb.RegionInfo{Status: r.GetStatus(), ClusterID: r.GetClusterID(), Term: r.GetTerm()}
		}
	}
}

// databases are the first two that the rows are of.
func (rows registryRows) databases() (names []string) {
	for key := range rows {
		if !slices.Contains(names, key.database) {
			if names = append(names, key.database); len(names) == 2 {
				break
			}
		}
	}
	slices.Sort(names)
	return names
}

// usual is the cluster of most nodes of each vBucket: a registry of an earlier release
// may tell of nodes of several.
func (rows registryRows) usual() map[string]string {
	type claim struct{ vBucket, cluster string }
	counts := make(map[claim]int)
	for key, r := range rows {
		if id := r.GetClusterID(); id != "" && r.GetStatus() != serverpb.RegionStatus_INACTIVE {
			counts[claim{key.vBucket, id}]++
		}
	}
	out := make(map[string]string)
	for c, n := range counts {
		best := counts[claim{c.vBucket, out[c.vBucket]}]
		if n > best || n == best && c.cluster < out[c.vBucket] {
			out[c.vBucket] = c.cluster
		}
	}
	return out
}
