package succession

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

var quiet = slog.New(slog.DiscardHandler)

// folder is the data folder of a node with two vBuckets that is not running.
type folder struct {
	t      *testing.T
	cfg    *config.Config
	former map[string]string
}

// newFolder makes a folder whose vBuckets have applied three changes.
func newFolder(t *testing.T, args ...string) *folder {
	t.Helper()
	args = append([]string{"--db-folder", filepath.Join(t.TempDir(), "db"), "--vbuckets", "2", "--disable-discovery-client=true"}, args...)
	inv, err := config.Load(args, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &folder{t: t, cfg: inv.Config, former: map[string]string{}}
	f.each(func(_ *node.Node, name string, _ *datadir.Generations, engine storage.Engine) error {
		m, err := fsm.New(engine)
		if err != nil {
			return err
		}
		f.former[name] = m.Identity().History
		for i := kv.Index(1); i <= 3; i++ {
			c := kv.Change{Index: i, Clock: kv.Clock(i), Mutations: []kv.Mutation{{Key: []byte("k"), Value: []byte{byte(i)}}}}
			if err := m.Replicate([]kv.Change{c}, i, false); err != nil {
				return err
			}
		}
		return m.Sync()
	})
	return f
}

func (f *folder) path() string { return f.cfg.Storage.DBFolder }

// open opens the folder.
func (f *folder) open(use func(n *node.Node) error) {
	f.t.Helper()
	n := node.Offline(f.cfg, quiet)
	if holds, err := datadir.Holds(f.path()); err == nil {
		n.Layout.Holds = holds
	}
	err := n.OpenFolder(nil)
	if err == nil {
		err = use(n)
	}
	if err = errors.Join(err, n.Close()); err != nil {
		f.t.Fatal(err)
	}
}

// each calls use with the engine of every vBucket.
func (f *folder) each(use func(n *node.Node, name string, g *datadir.Generations, engine storage.Engine) error) {
	f.t.Helper()
	f.open(func(n *node.Node) error {
		for _, name := range n.Layout.VBuckets {
			g, err := n.Dir.VBucket(name)
			if err != nil {
				return err
			}
			engine, err := n.Engines.Open(g.Current())
			if err != nil {
				return err
			}
			if err := errors.Join(use(n, name, g, engine), engine.Close()); err != nil {
				return err
			}
		}
		return n.Dir.Claim()
	})
}

// decided has the folder know that it becomes the second of two masters.
func (f *folder) decided() *promotion.Record {
	f.t.Helper()
	disk, err := bootstrap.Reserve(f.path(), "http://127.0.0.1:9002")
	if err != nil {
		f.t.Fatal(err)
	}
	r := &promotion.Record{
		ID: "p", Step: promotion.Decided, Era: 1, History: era.History(1, "aa"), Deployment: 7, Format: 1, Replica: 2, Cuts: map[string]promotion.Cut{},
		Nodes: []promotion.Node{
			{Replica: 1, Address: "127.0.0.1:8001", URL: "http://127.0.0.1:9001", Disk: "00000000-0000-4000-8000-000000000001"},
			{Replica: 2, Address: "127.0.0.1:8002", URL: "http://127.0.0.1:9002", Disk: disk},
		},
	}
	for name, former := range f.former {
		r.Cuts[name] = promotion.Cut{Former: former, End: 3, Clock: 9}
		if err := writeRequests(f.path(), r.ID, name, nil); err != nil {
			f.t.Fatal(err)
		}
	}
	f.each(func(_ *node.Node, _ string, g *datadir.Generations, _ storage.Engine) error { return g.Seal(r.ID) })
	if err := r.Write(f.path()); err != nil {
		f.t.Fatal(err)
	}
	return r
}

// A crash between any two steps of what a decided promotion does offline is gone over at the
// next start.
func TestOfflineForkGoesOnAfterACrash(t *testing.T) {
	for steps := range 6 {
		t.Run(fmt.Sprint(steps, " steps done"), func(t *testing.T) {
			f := newFolder(t, "--role", "slave", "--repl-master-addr", "127.0.0.1:1")
			r := f.decided()
			f.each(func(n *node.Node, name string, g *datadir.Generations, engine storage.Engine) error {
				return forkOf(r, n, name, g, engine, steps)
			})
			if steps > 4 {
				f.open(func(n *node.Node) error {
					return errors.Join(n.Dir.Become(datadir.Database), join(f.cfg, n.Layout, r))
				})
			}
			for range 2 { // the second one finds nothing to do
				wantMaster(t, f, r)
			}
		})
	}
}

// forkOf does the first steps of the fork: of the first vBucket, then of the second.
func forkOf(r *promotion.Record, n *node.Node, name string, g *datadir.Generations, engine storage.Engine, steps int) error {
	done := 2 * slices.Index(n.Layout.VBuckets, name)
	if steps > done {
		if err := importRequests(engine, n.Dir.Path(), r.ID, name); err != nil {
			return err
		}
	}
	if steps > done+1 {
		cut := r.Cuts[name]
		return errors.Join(offline.Fork(engine, offline.Branch{Former: cut.Former, End: cut.End, History: r.History, Clock: cut.Clock}), g.Unseal())
	}
	return nil
}

func wantMaster(t *testing.T, f *folder, r *promotion.Record) {
	t.Helper()
	cfg, part, err := Prepare(t.Context(), f.cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Role != config.RoleMaster || cfg.Nexus.NodeURL != "http://127.0.0.1:9002" || part.Promotion.Step != promotion.Done {
		t.Errorf("role %s at %q, %+v", cfg.Role, cfg.Nexus.NodeURL, part.Promotion)
	}
	if member, err := bootstrap.HasIdentity(f.path()); err != nil || !member {
		t.Error("it is no member", err)
	}
	if left, err := datadir.Named(f.path(), requestsPrefix); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
	if holds, err := datadir.Holds(f.path()); err != nil || holds != datadir.Database {
		t.Error(holds, err)
	}
	f.each(func(_ *node.Node, name string, g *datadir.Generations, engine storage.Engine) error {
		id, applied, err := offline.Inspect(engine)
		if err != nil || id.History != r.History || applied != 3+era.Gap {
			t.Errorf("vBucket %s: %+v at %d, %v", name, id, applied, err)
		}
		if by, err := g.Sealed(); err != nil || by != "" {
			t.Errorf("vBucket %s: sealed by %q, %v", name, by, err)
		}
		return nil
	})
}

// A crash between any two steps of a rejoin is gone over at the next start: what the new masters
// lack is exported once, and all of the folder is set aside, a Raft log elsewhere too.
func TestRejoinGoesOnAfterACrash(t *testing.T) {
	moved := []string{"vbucket-0", "vbucket-1", "raft.json", "dkv.json"}
	for steps := range len(moved) + 2 {
		t.Run(fmt.Sprint(steps, " steps done"), func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			f := newFolder(t, "--role", "master", "--auto-rejoin", "--nexus-log-dir", log)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(os.WriteFile(filepath.Join(f.path(), "raft.json"), nil, 0o600))
			must(os.Mkdir(log, 0o700))
			s := &promotion.Superseded{Era: 2, History: "2-bb", Masters: []string{"h:1"}, Ends: map[string]kv.Index{"0": 1, "1": 3}}
			must(s.Write(f.path()))
			aside := filepath.Join(f.path(), "aside-before-era-2")
			if steps > 0 {
				f.open(func(n *node.Node) error {
					_, err := export(t.Context(), n, s, filepath.Base(aside))
					return err
				})
			}
			for _, name := range moved[:max(steps-1, 0)] {
				must(os.Rename(filepath.Join(f.path(), name), filepath.Join(aside, name)))
			}
			for range 2 {
				cfg, part, err := Prepare(t.Context(), f.cfg, quiet)
				must(err)
				if cfg.Role != config.RoleSlave || !part.Superseded.Rejoined || cfg.Replication.MasterAddrs[0] != "h:1" {
					t.Errorf("role %s of %v, %+v", cfg.Role, cfg.Replication.MasterAddrs, part.Superseded)
				}
			}
			for _, name := range moved {
				if _, err := os.Stat(filepath.Join(aside, name)); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(filepath.Join(f.path(), name)); err == nil {
					t.Errorf("%s is still there", name)
				}
			}
			if _, err := os.Stat(logAside(log, filepath.Base(aside))); err != nil {
				t.Error(err)
			}
			lost, err := os.ReadFile(filepath.Join(aside, "lost-changes.jsonl"))
			if err != nil || strings.Count(string(lost), "\n") != 2 {
				t.Errorf("%s, %v", lost, err)
			}
		})
	}
}
