package recovery

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/succession"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/raft/tail"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// recordOf is the recovery of a plan, as the folder has it from the decision on.
func recordOf(p *plan, token string, former *promotion.Record) *promotion.Record {
	r := &promotion.Record{
		ID: kv.NewID(), Step: promotion.Recovering, Force: true,
		Era: p.Era, History: era.History(p.Era, kv.NewID()),
		Replica: 1, Format: command.Newest(), Masters: slices.Clone(p.Masters), Cuts: map[string]promotion.Cut{},
		Recovery: &promotion.Recovery{
			Token: token, Deployment: p.Member.Deployment, Replica: p.Member.Replica, URL: p.Member.URL, Entries: map[string]uint64{},
		},
	}
	for r.Deployment == 0 {
		r.Deployment = rand.Uint64()
	}
	if former != nil { // masters of a still earlier era, which have not been told of the one that ends
		r.Masters = append(r.Masters, former.Masters...)
		slices.Sort(r.Masters)
		r.Masters = slices.Compact(r.Masters)
	}
	for i := range p.VBuckets {
		v := &p.VBuckets[i]
		r.Cuts[v.Name] = promotion.Cut{Former: v.History, End: v.Sure}
		r.Recovery.Entries[v.Name] = v.KeptTo
	}
	return r
}

// recovery carries a decided recovery out. Each step is durable, and a crash between or in them is
// gone over by the next call.
type recovery struct {
	cfg    *config.Config
	log    *slog.Logger
	node   *node.Node
	record *promotion.Record
	// after is called behind each step; tests end there.
	after func(step string) error
}

func (r *recovery) dir() string   { return r.cfg.Storage.DBFolder }
func (r *recovery) aside() string { return succession.Aside(r.record.Era) }

// run completes the recovery, whose record is on disk.
func (r *recovery) run() (err error) {
	if r.node, err = open(r.cfg, r.log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.node.Close()) }()
	if err := r.setIdentityAside(); err != nil {
		return fmt.Errorf("set the identity aside: %w", err)
	}
	for i, name := range r.node.Layout.VBuckets {
		if err := r.fork(uint64(i)+1, name); err != nil {
			return fmt.Errorf("vBucket %s: %w", name, err)
		}
	}
	if err := succession.SetLogAside(r.cfg, r.aside(), r.log); err != nil {
		return err
	}
	if err := r.after("log"); err != nil {
		return err
	}
	if err := r.found(); err != nil {
		return err
	}
	if err := r.after("founded"); err != nil {
		return err
	}
	if err := promotion.ForgetStop(r.dir()); err != nil {
		return err
	}
	done := *r.record
	done.Step = promotion.Done
	return done.Write(r.dir())
}

// setIdentityAside makes the folder one of no cluster: also a release that knows nothing of
// recoveries does not start on it.
func (r *recovery) setIdentityAside() error {
	m, is, err := bootstrap.MembershipOf(r.dir())
	if err != nil {
		return err
	}
	to := filepath.Join(r.dir(), r.aside())
	if err := durable.MkdirAll(to); err != nil {
		return err
	}
	if is && m.Deployment == r.record.Recovery.Deployment {
		for _, name := range bootstrap.Files() {
			if err := os.Rename(filepath.Join(r.dir(), name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := errors.Join(durable.SyncDir(to), durable.SyncDir(r.dir())); err != nil {
			return err
		}
	}
	return r.after("identity")
}

// fork builds the state of the new history beside the present one of a vBucket, and puts it in its
// place.
func (r *recovery) fork(shard uint64, name string) error {
	generations, err := r.node.Dir.VBucket(name)
	if err != nil {
		return err
	}
	kept := filepath.Join(filepath.Dir(generations.Current()), r.aside())
	history, err := r.historyOf(generations.Current())
	if err != nil {
		return err
	}
	if history != r.record.History {
		former := generations.Current()
		place, err := generations.Next()
		if err != nil {
			return err
		}
		if err := r.build(shard, name, former, place); err != nil {
			return err
		}
		if err := r.after("built " + name); err != nil {
			return err
		}
		if kept, err = generations.SetAside(r.aside()[len(datadir.AsideName):]); err != nil {
			return err
		}
		if err := generations.Commit(place); err != nil {
			return err
		}
		if err := r.after("committed " + name); err != nil {
			return err
		}
		if err := generations.Remove(former); err != nil {
			return err
		}
	}
	// With the rest of what was there. A vBucket on a disk of its own keeps it.
	to := filepath.Join(r.dir(), r.aside(), "vbucket-"+name)
	if err := os.Rename(kept, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("the former state of a vBucket stays beside the new one; -dropAside does not delete it", "folder", kept, "error", err)
	}
	return r.after("forked " + name)
}

// historyOf returns the history of the state in a folder.
func (r *recovery) historyOf(dir string) (string, error) {
	engine, err := r.node.Engines.Open(dir)
	if err != nil {
		return "", node.OpenError(err)
	}
	id, _, err := offline.Inspect(engine)
	return id.History, errors.Join(err, engine.Close())
}

// build makes the state of the new history in the folder place: that of the former one, with the
// commands of the log which are kept.
func (r *recovery) build(shard uint64, name, former, place string) error {
	engine, err := r.node.Engines.Open(former)
	if err != nil {
		return node.OpenError(err)
	}
	if err := errors.Join(engine.Checkpoint(place), engine.Close()); err != nil {
		return err
	}
	to, err := r.applyTail(shard, name, place)
	if err != nil {
		return err
	}
	if engine, err = r.node.Engines.Open(place); err != nil {
		return node.OpenError(err)
	}
	return errors.Join(offline.Fork(engine, to), engine.Close())
}

// applyTail applies what the Raft log has behind a state, in the folder place, and returns where the
// former history ends in it.
func (r *recovery) applyTail(shard uint64, name, place string) (to offline.Branch, err error) {
	logs, err := host.Look(r.cfg.Nexus.LogDir, r.record.Recovery.Deployment)
	if err != nil {
		return to, err
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	l, err := tail.Open(logs, shard, r.record.Recovery.Replica)
	if err != nil {
		return to, err
	}
	m, err := machineAt(r.node.Engines.Open, place)
	if err != nil {
		return to, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	cut := r.record.Cuts[name]
	if err := l.CheckFollows(m.Applied() - m.Base()); err != nil {
		return to, err
	}
	if err := replay(m, l, cut.End, r.record.Recovery.Entries[name]); err != nil {
		return to, err
	}
	if err := m.Sync(); err != nil {
		return to, err
	}
	to = offline.Branch{Former: cut.Former, End: cut.End, History: r.record.History, Clock: m.Clock(), Expired: m.ExpiredTotal()}
	if m.Applied() > cut.End {
		to.Last = m.Applied()
	}
	return to, nil
}

func machineAt(open func(string) (storage.Engine, error), dir string) (*fsm.Machine, error) {
	engine, err := open(dir)
	if err != nil {
		return nil, node.OpenError(err)
	}
	m, err := fsm.NewReplica(engine)
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return m, nil
}

// commands is a log, of which f gets the commands from one entry up to another one.
type commands interface {
	Commands(from, to uint64, f func(entry uint64, c *command.Command) error) error
}

// replay applies the commands of a log behind m, up to an entry. Those behind the index sure, which
// are not known to be committed, are applied above the indexes that a promotion skips: another member
// may have had other commands at their own, which slaves or clients have seen.
func replay(m *fsm.Machine, l commands, sure kv.Index, to uint64) error {
	return l.Commands(m.Applied()-m.Base()+1, to, func(entry uint64, c *command.Command) error {
		index := m.Base() + entry
		if index > sure {
			index += era.Gap
			if c.Fence > sure { // an epoch that has begun behind it, too
				c.Fence += era.Gap
			}
		}
		if m.Restores(c) {
			return fmt.Errorf("entry %d is the end of a restore, which is not made here", entry)
		}
		return m.Apply([]fsm.Entry{{Index: index, Command: c}}, make([]command.Result, 1), false)
	})
}

// found makes the folder that of the only member of a new cluster.
func (r *recovery) found() error {
	if m, is, err := bootstrap.MembershipOf(r.dir()); err != nil || is && m.Deployment == r.record.Deployment {
		return err
	}
	disk, err := bootstrap.Reserve(r.dir(), r.record.Recovery.URL)
	if err != nil {
		return err
	}
	// Without an address: the node tells others where it serves when it does.
	r.record.Nodes = []promotion.Node{{Replica: 1, URL: r.record.Recovery.URL, Disk: disk}}
	if err := r.record.Write(r.dir()); err != nil {
		return err
	}
	return bootstrap.Promoted{
		Deployment: r.record.Deployment,
		Terms: bootstrap.Terms{
			ClusterName: r.cfg.Nexus.ClusterName, Database: r.node.Layout.Database, VBuckets: len(r.node.Layout.VBuckets), Format: r.record.Format,
		},
		Members: []bootstrap.PromotedMember{{Replica: 1, URL: r.record.Recovery.URL, UUID: disk}},
	}.Install(r.dir(), 1)
}
