package member

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica/raft"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/route"
)

// snapshotRate bounds what one snapshot is sent with, in bytes a second: clients share the
// network with it.
const snapshotRate = 64 << 20

// Open implements role.Role.
func (m *Member) Open(ctx context.Context) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	if err := m.openHost(); err != nil {
		return err
	}
	if err := m.identity.MarkStarted(); err != nil {
		return err
	}
	if err := m.standbys.Open(); err != nil {
		return err
	}
	var err error
	if m.rafts, err = node.OpenEach(ctx, m.node, m.openRaft); err != nil {
		return err
	}
	calls, err := m.node.Calls()
	if err != nil {
		return err
	}
	calls.Share = true
	m.pool = peer.NewPool(calls)
	m.node.OnClose(m.pool.Close)
	m.router = route.New(m.pool)
	m.cluster = cluster.New(cluster.Options{
		Identity: m.identity,
		Logs:     m.logs(),
		Certs:    m.node.Certs,
		Pool:     m.pool,
		Terms:    m.terms(),
		Clock:    m.node.Clock,
		Tasks:    &m.node.Tasks,
		Aside:    m.aside(),

		SnapshotInterval: m.node.Config.Nexus.SnapshotInterval,

		Log: m.node.Log,
	})
	return m.node.Dir.Claim()
}

// aside returns what says that this node should lead nothing; nil if it needs no lease of the
// registry.
func (m *Member) aside() func() bool {
	if k := m.standbys.Record(); k != nil {
		return k.Lapsing
	}
	return nil
}

// enter finds out which member of which cluster this node is, which may take until others
// are up.
func (m *Member) enter(ctx context.Context) error {
	url, err := m.nodeURL()
	if err != nil {
		return err
	}
	if err := m.checkURLs(url); err != nil {
		return err
	}
	m.identity, err = bootstrap.Enter(ctx, m.bootstrapOptions(url))
	if err = errors.Join(err, m.node.Waiting.End()); err != nil {
		return err
	}
	info := &m.node.Info
	info.Timing = m.timing().Text()
	info.ID, info.Cluster = strconv.FormatUint(m.identity.Replica, 10), fmt.Sprintf("%016x", m.identity.Deployment)
	if m.identity.Fresh && m.identity.Founder && m.node.Dir.Claimed() && len(m.identity.Members) == 1 {
		return m.continueInRaft()
	}
	return nil
}

// openHost opens what keeps the Raft logs of all vBuckets.
func (m *Member) openHost() error {
	if err := m.guardLog(); err != nil {
		return err
	}
	nexus := &m.node.Config.Nexus
	var err error
	m.host, err = host.Open(host.Options{
		Dir:          nexus.LogDir,
		Address:      m.identity.Address(),
		Deployment:   m.identity.Deployment,
		Timing:       m.timing(),
		Size:         m.hostSize(),
		ConfirmReads: !nexus.LeaseBasedReads,
		Guard:        m.logGuard,
		Certs:        m.node.Certs,
		Faults:       m.node.Faults,
		Log:          m.node.Log,
	})
	if err != nil {
		return err
	}
	m.node.OnClose(m.host.Close)
	return nil
}

// checkURLs rejects addresses that a member could be entered with and not be reached at.
func (m *Member) checkURLs(own string) error {
	for _, url := range append([]string{own}, m.node.Config.Nexus.ClusterURLs...) {
		address, err := bootstrap.ParseURL(url)
		if err != nil {
			continue // empty, or Enter says what is wrong
		}
		if err := host.CheckAddress(address); err != nil {
			return err
		}
	}
	return nil
}

// guardLog watches the disk of the Raft log, if it is not that of the states.
func (m *Member) guardLog() error {
	dir := m.node.Config.Nexus.LogDir
	if err := durable.MkdirAll(dir); err != nil {
		return fmt.Errorf("nexus-log-dir: %w; choose a folder that this user may write to", err)
	}
	has, err := host.HasLog(dir)
	if err != nil {
		return err
	}
	m.node.Private(dir, has)
	if m.node.Guard.Covers(dir) {
		return nil
	}
	m.logGuard, err = m.node.NewGuard(dir)
	return err
}

// logs are the replicas as the cluster knows them.
func (m *Member) logs() []cluster.Log {
	logs := make([]cluster.Log, len(m.rafts))
	for i, name := range m.node.Layout.VBuckets {
		logs[i] = cluster.Log{VBucket: name, Raft: m.rafts[i]}
	}
	return logs
}

// openRaft opens the replica of a vBucket. It takes no part in its log yet.
func (m *Member) openRaft(i int, name string) (*raft.Replica, error) {
	state, err := m.node.StateOptions(name)
	if err != nil {
		return nil, err
	}
	state.Gate = m.standbys.Gate(i)
	r, err := raft.Open(m.host, raft.Options{
		Options:       state,
		Shard:         uint64(i) + 1,
		Replica:       m.identity.Replica,
		Members:       m.identity.InitialMembers(),
		NonVoting:     m.identity.NonVoting,
		Self:          m.self(),
		TakePart:      func() { m.cluster.TakePart(context.Background()) },
		Recorded:      m.recorded,
		WhenRemoved:   m.noteRemoval,
		Agreed:        m.identity.LogFormat,
		Timeout:       m.node.Config.Nexus.ReplTimeout,
		SnapshotEvery: uint64(m.node.Config.Nexus.SnapshotCount),
		Keep:          uint64(m.node.Config.Nexus.SnapshotCatchupEntries),
		MaxInMemory:   m.hostSize().MaxInMemory(),
		SnapshotRate:  snapshotRate,
		KeepsTiming:   i == 0,
		FreshEvery:    time.Duration(len(m.node.Layout.VBuckets)) * condition.AskEach,
	})
	if err != nil {
		return nil, err
	}
	m.standbys.Bind(i, r)
	return r, nil
}

// hostSize is what the Raft log may use of this host.
func (m *Member) hostSize() host.Size {
	return host.Size{
		Cores:    runtime.GOMAXPROCS(0),
		Memory:   uint64(config.ThisHost().Memory()),
		VBuckets: len(m.node.Layout.VBuckets),
	}
}

// continueInRaft makes the state of a former standalone node, or a restored one, the start of a Raft log. It
// may be repeated as long as the log has not begun.
func (m *Member) continueInRaft() error {
	for _, name := range m.node.Layout.VBuckets {
		generations, err := m.node.Dir.VBucket(name)
		if err != nil {
			return err
		}
		engine, err := m.node.Engines.Open(generations.Current())
		if err != nil {
			return node.OpenError(err)
		}
		if err := errors.Join(offline.Continue(engine), engine.Close()); err != nil {
			return fmt.Errorf("vBucket %s: %w", name, err)
		}
	}
	m.node.Log.Info("the state that was here, of a standalone node or a restored one, continues in a Raft log; add members with dkvctl -addNode")
	return nil
}
