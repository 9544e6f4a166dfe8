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

// registryPoll is the time between two requests to a registry that cannot stream its
// changes.
const registryPoll = time.Second

const (
	// registryStart is how long a watch may take to begin while no node is known: a registry
	// that has no owner rejects it only after some seconds, and knows nodes all the same.
	registryStart = 1500 * time.Millisecond
	// registrySilence is how long a watch may be silent; a registry sends something every two
	// seconds.
	registrySilence = 7 * time.Second
)

// stableAfter is how long a registry must have answered for the next one to be asked
// without a growing pause. A registry whose streams end sooner is asked less and less
// often, whatever it answered.
const stableAfter = 5 * time.Second

// followRegistry follows one registry, and the next one when that fails, as long as the
// client is open. The known nodes stay while no registry answers.
func (l *learner) followRegistry() {
	ctx := l.client.ctx
	pause := firstProbePause
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
		} else if l.knowsNone() {
			_ = l.lookUp(ctx, n) // it may know the nodes although it cannot be watched; err says why
		}
		if time.Since(began) >= stableAfter {
			pause = firstProbePause
		}
		l.registryFailed(err)
		if !sleepOr(ctx, jitter(pause), nil) {
			return
		}
		pause = min(2*pause, longestPause(err))
	}
}

func (l *learner) registryFailed(err error) {
	l.mu.Lock()
	first := l.registry == nil
	l.registry = err
	l.mu.Unlock()
	if first && l.client.ctx.Err() == nil {
		l.client.opts.log.Warn("registry does not answer", "error", err)
	}
	l.client.changed.Raise()
}

func (l *learner) registryRequest() *serverpb.GetClusterInfoRequest {
	req := &serverpb.GetClusterInfoRequest{}
	if l.client.opts.database != "" {
		req.Database = &l.client.opts.database
	}
	return req
}

// knowsNone reports whether no registry has named a node yet.
func (l *learner) knowsNone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.known) == 0
}

// watchRegistry follows a registry's stream of changes until it ends.
func (l *learner) watchRegistry(ctx context.Context, n *node) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := registrySilence
	if l.knowsNone() {
		start = registryStart
	}
	silence := time.AfterFunc(start, func() { cancel(errStalled) })
	defer silence.Stop()
	s, err := n.stream(ctx, serverpb.DKVDiscovery_WatchClusterInfo_FullMethodName, l.registryRequest())
	if err != nil {
		return toError(err, n.addr, false)
	}
	rows, complete := make(registryRows), false
	for {
		change := new(serverpb.ClusterInfoChange)
		if err := s.Recv(change); errors.Is(err, io.EOF) {
			return errorf(ErrUnavailable, "registry %s ended the stream", n.addr)
		} else if err != nil {
			return toError(err, n.addr, false)
		}
		silence.Reset(registrySilence)
		rows.apply(change, l.client.opts.database)
		complete = complete || change.GetComplete()
		keepalive := !change.GetComplete() && len(change.GetRows()) == 0 && len(change.GetGone()) == 0
		if complete && !keepalive { // before that, a missing row may still come
			l.registryAnswered(rows)
		}
	}
}

// pollRegistry asks a registry for its rows again and again until that fails.
func (l *learner) pollRegistry(ctx context.Context, n *node) error {
	for {
		if err := l.lookUp(ctx, n); err != nil {
			return err
		}
		if !sleepOr(ctx, jitter(registryPoll), nil) {
			return context.Cause(ctx)
		}
	}
}

// lookUp asks a registry for its rows once.
func (l *learner) lookUp(ctx context.Context, n *node) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var resp serverpb.GetClusterInfoResponse
	if err := n.invoke(ctx, serverpb.DKVDiscovery_GetClusterInfo_FullMethodName, l.registryRequest(), &resp); err != nil {
		return toError(err, n.addr, false)
	}
	rows := make(registryRows)
	rows.apply(&serverpb.ClusterInfoChange{Rows: resp.GetRegionInfos()}, l.client.opts.database)
	l.registryAnswered(rows)
	return nil
}

// registryAnswered replaces the known nodes with those of a registry's current rows.
func (l *learner) registryAnswered(rows registryRows) {
	all, err := l.candidates(rows)
	l.mu.Lock()
	l.registry = err
	l.mu.Unlock()
	if err != nil {
		l.client.changed.Raise()
		return
	}
	if l.setMembers(all) { // a registry that is polled mostly repeats itself
		l.probeAfterNews()
	}
}

// candidates returns the nodes in the rows, which must be of one database, that belong to
// the cluster that the client is bound to. Nodes that lag or stop are left out: their row
// says INACTIVE, or is missing.
func (l *learner) candidates(rows registryRows) ([]candidate, error) {
	if names := rows.databases(); len(names) > 1 {
		return nil, errorf(ErrInvalid, "the registry has several databases, such as %q and %q: name one (WithDatabase)", names[0], names[1])
	}
	majority := rows.majorities()
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make(map[string]candidate)
	for key, r := range rows {
		if r.GetStatus() == serverpb.RegionStatus_INACTIVE {
			continue
		}
		id, known := r.GetClusterID(), l.binding.ids[key.vBucket]
		if known == "" {
			known = majority[key.vBucket]
		}
		if id != "" && known != "" && id != known {
			l.noteOtherCluster(errorf(ErrOtherCluster, "the registry lists node %s of cluster %s; this client is bound to cluster %s"+openAnother,
				key.address, id, l.binding.name()))
			continue
		}
		c := candidate{addr: key.address, dc: r.GetDcID(), slave: r.GetStatus() == serverpb.RegionStatus_ACTIVE_SLAVE}
		if r.GetStatus() != serverpb.RegionStatus_LEADER {
			c.rank = rankUnknown
		}
		if before, there := found[c.addr]; !there || c.rank < before.rank {
			found[c.addr] = c
		}
	}
	return slices.Collect(maps.Values(found)), nil
}

// maxRows bounds the rows that a client keeps of a registry: beyond as many those of slaves are
// dropped, and as many again may be masters'. maxName bounds the length of the names in them.
const (
	maxRows = 1 << 16
	maxName = 512
)

// registryRows are the current rows of a registry, by what it tells rows apart by: a node may
// move to another data centre.
type registryRows map[registryKey]*serverpb.RegionInfo

type registryKey struct{ database, vBucket, address string }

func keyOfRow(r *serverpb.RegionInfo) registryKey {
	return registryKey{r.GetDatabase(), r.GetVBucket(), r.GetNodeAddress()}
}

// apply applies a change. Rows that cannot be used are left out: a registry may hold
// anything.
func (rows registryRows) apply(c *serverpb.ClusterInfoChange, database string) {
	for _, r := range c.GetGone() {
		delete(rows, keyOfRow(r))
	}
	for _, r := range c.GetRows() {
		key := keyOfRow(r)
		most := maxRows
		if r.GetStatus() != serverpb.RegionStatus_ACTIVE_SLAVE {
			most = 2 * maxRows
		}
		usable := dialable(key.address) && len(r.GetDcID()) <= maxName && len(key.vBucket) <= maxName && len(key.database) <= maxName && len(r.GetClusterID()) <= maxName
		if _, there := rows[key]; usable && (there || len(rows) < most) && (database == "" || key.database == database) {
			rows[key] = &serverpb.RegionInfo{DcID: r.GetDcID(), Status: r.GetStatus(), ClusterID: r.GetClusterID(), Term: r.GetTerm()}
		}
	}
}

// databases returns up to two different databases of the rows, sorted.
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

// majorities returns, for each vBucket, the cluster that most nodes belong to: a registry
// of an earlier release may list nodes of several clusters.
func (rows registryRows) majorities() map[string]string {
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
