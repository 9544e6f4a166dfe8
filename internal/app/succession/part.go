// Package succession connects promotions to the node: what a data folder says that the node
// has become goes before the configured role, and what a promotion leaves to be done while
// no replica is open is done here, before a role is chosen. Service serves the calls of
// promotions, to operators and between nodes; package promotion decides.
package succession

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// Prepare completes what a promotion has left to be done in the data folder, and returns
// what the node has become with the configuration of it. The configuration is the given one
// if no promotion has changed the node's role.
func Prepare(ctx context.Context, cfg *config.Config, log *slog.Logger) (*config.Config, promotion.Part, error) {
	if cfg.Storage.Diskless || cfg.Role == config.RoleDiscovery {
		return cfg, promotion.Part{}, nil
	}
	part, err := promotion.Of(cfg.Storage.DBFolder)
	if err != nil {
		return nil, part, err
	}
	if r := part.Promotion; r != nil && r.Step == promotion.Recovering {
		return nil, part, fmt.Errorf("a recovery of db-folder %s has begun and is not complete, so nothing in it may be served; complete it: dkvsrv recover --confirm %s, with the options of this node",
			cfg.Storage.DBFolder, r.Recovery.Token)
	}
	if r := part.Promotion; r != nil && r.Step == promotion.Decided {
		if err := found(cfg, r, log); err != nil {
			return nil, part, fmt.Errorf("become the master of era %d: %w", r.Era, err)
		}
	}
	if s := part.Superseded; s != nil && !s.Rejoined && (s.Rejoin || cfg.Replication.AutoRejoin) {
		if err := rejoin(ctx, cfg, s, log); err != nil {
			return nil, part, fmt.Errorf("rejoin as a slave: %w", err)
		}
	}
	cfg, halted, err := stopped(cfg, part)
	switch {
	case err != nil:
		return nil, part, err
	case halted:
	case part.Promotion != nil && part.Promotion.Step == promotion.Done && len(part.Promotion.Nodes) > 0:
		cfg = cfg.WithRole(config.RoleMaster)
		if part.Promotion.Recovery != nil {
			log.Info("this node was recovered as the only master of an era; nexus-cluster-url has no effect any more", "era", part.Promotion.Era)
		}
		// Its cluster is the one that the promotion has founded, not one of the configuration.
		cfg.Nexus.NodeURL, cfg.Nexus.ClusterURLs, cfg.Nexus.Join = part.Promotion.Self().URL, nil, false
	case part.Promotion != nil && part.Promotion.Step == promotion.Done:
		cfg = cfg.WithRole(config.RoleNone)
	case part.Superseded != nil && !part.Superseded.Rejoined:
		cfg = cfg.WithRole(config.RoleNone) // it was a master, and may be configured as a slave
	case part.Superseded != nil:
		cfg = cfg.WithRole(config.RoleSlave)
		if cfg.ConfiguredRole() != config.RoleSlave {
			// Not set for a master; a planned move back waits for the last changes.
			cfg.Replication.Mode = config.ReplicationStream
		}
		if len(cfg.Replication.MasterAddrs) == 0 {
			cfg.Replication.MasterAddrs = part.Superseded.Masters
			unlisted := cfg.ConfiguredRole() == config.RoleNone && cfg.Replication.AutoPromoteAfter == 0
			cfg.Discovery.Disabled = cfg.Discovery.Disabled || unlisted
		}
	}
	return cfg, part, nil
}

// Became says in a sentence what a promotion has made of a node; empty for nothing.
func Became(part promotion.Part) string {
	switch r, s := part.Promotion, part.Superseded; {
	case s == nil && part.Stopped.Holds():
		return "stopped: " + Stopped(part.Stopped)
	case r != nil && r.Step == promotion.Done && r.Recovery != nil:
		return "" // it was a master, and is one
	case r != nil && r.Step == promotion.Done:
		if len(r.Nodes) > 1 {
			return fmt.Sprintf("promoted: a slave that has become one of %d masters of era %d", len(r.Nodes), r.Era)
		}
		return fmt.Sprintf("promoted: a slave that has become the master of era %d", r.Era)
	case s != nil && s.Rejoined:
		return fmt.Sprintf("rejoined: a former master that is a slave of era %d at %s", s.Era, strings.Join(s.Masters, ", "))
	case s != nil:
		return Superseded(s)
	default:
		return ""
	}
}

// Superseded says why a former master serves nothing.
func Superseded(s *promotion.Superseded) string {
	return fmt.Sprintf("a promotion has replaced this node: the master of era %d is at %s; make this node its slave with dkvctl -rejoin, or set auto-rejoin", s.Era, strings.Join(s.Masters, ", "))
}

// found makes the copies of a slave the state of a master, by a promotion that is decided.
func found(cfg *config.Config, r *promotion.Record, log *slog.Logger) error {
	holds, err := datadir.Holds(cfg.Storage.DBFolder)
	if err != nil {
		return err
	}
	n := node.Offline(cfg, log)
	n.Layout.Holds = holds // a crash may have come between the folder and the record
	if err := n.OpenFolder(nil); err != nil {
		return err
	}
	err = fork(n, r)
	if closeErr := n.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := join(cfg, n.Layout, r); err != nil {
		return err
	}
	r.Step = promotion.Done
	if err := r.Write(cfg.Storage.DBFolder); err != nil {
		return err
	}
	if err := dropRequests(cfg.Storage.DBFolder); err != nil {
		log.Warn("files of the promotion are left in db-folder", "error", err)
	}
	log.Info("this node has become the master", "era", r.Era, "history", r.History)
	return nil
}

// join makes this disk a member of the cluster that a promotion founds, if it founds one. Its
// decision, which this disk has, is the invitation.
func join(cfg *config.Config, layout node.Layout, r *promotion.Record) error {
	if len(r.Nodes) == 0 {
		return nil
	}
	founded := bootstrap.Promoted{
		Deployment: r.Deployment,
		Terms: bootstrap.Terms{
			ClusterName: cfg.Nexus.ClusterName, Database: layout.Database, VBuckets: len(layout.VBuckets), Format: r.Format,
		},
	}
	for _, n := range r.Nodes {
		founded.Members = append(founded.Members, bootstrap.PromotedMember{Replica: n.Replica, URL: n.URL, UUID: n.Disk, Address: n.Address})
	}
	return founded.Install(cfg.Storage.DBFolder, r.Replica)
}

// fork makes each vBucket's copy the base of a log.
func fork(n *node.Node, r *promotion.Record) error {
	for _, name := range n.Layout.VBuckets {
		cut := r.Cuts[name]
		generations, err := n.Dir.VBucket(name)
		if err != nil {
			return err
		}
		engine, err := n.Engines.Open(generations.Current())
		if err != nil {
			return node.OpenError(err)
		}
		if r.Replica > 1 {
			err = importRequests(engine, n.Dir.Path(), r.ID, name)
		}
		if err == nil {
			err = offline.Fork(engine, offline.Branch{Former: cut.Former, End: cut.End, History: r.History, Clock: cut.Clock})
		}
		if closeErr := engine.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("vBucket %s: %w", name, err)
		}
		if err := generations.Unseal(); err != nil {
			return err
		}
	}
	return n.Dir.Become(datadir.Database)
}
