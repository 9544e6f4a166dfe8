// Package restoration is dkvsrv --restore-from: it puts a backup into the empty folder of a node
// that does not run. What is made there is the start of a new cluster:
//
//   - Every byte of the backup is compared with its checksum before anything is written, and once
//     more as it is copied.
//   - A vBucket gets a cluster id and a history of its own, and no history before that one. So no
//     slave of the former cluster takes the restored state for a later one of its own and drops its
//     copy, which may be ahead of the backup, or is that of a cluster that still runs.
//   - Its changes are numbered from 2^40 above the backup's index on, as after a promotion: no
//     number that the former cluster has given, to a slave or a watcher, means another change here.
//   - The list of slaves, members, standbys, a pause, a seal and an unfinished restore end;
//     remembered requests stay.
//   - The file RESTORING says from the first write to the last one that the folder is not complete.
//     No start serves anything in it then, and the next restore begins with an empty folder.
//
// The node starts as a standalone one does or, as a master, as the only first member of a cluster:
// as a former standalone node does, it continues the state in a Raft log. Other members join. They
// cannot be first members as well: the first members of a log begin with the same state, and only
// this one has it.
package restoration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
)

// Run restores what the command line names.
func Run(ctx context.Context, cfg *config.Config, what config.Restore, log *slog.Logger, out io.Writer) error {
	return run(ctx, cfg, what, log, out, func(string) error { return nil })
}

// run is Run with a function that is called behind each step; tests end there.
func run(ctx context.Context, cfg *config.Config, what config.Restore, log *slog.Logger, out io.Writer, after func(step string) error) error {
	if err := suits(cfg); err != nil {
		return err
	}
	from, err := filepath.Abs(what.From)
	if err != nil {
		return err
	}
	r := &restore{cfg: cfg, log: log, out: out, after: after, from: from}
	if err := r.verify(ctx); err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	return r.run(ctx)
}

// suits rejects nodes that no backup is restored to.
func suits(cfg *config.Config) error {
	switch {
	case cfg.Storage.Diskless:
		return errors.New("--restore-from: a diskless node has no folder to restore to; start it, and restore with dkvctl -restore")
	case cfg.Role == config.RoleSlave:
		return errors.New("--restore-from: a slave gets its state from its master; restore the master, and start the slave with an empty db-folder")
	case cfg.Role == config.RoleDiscovery:
		return errors.New("--restore-from: a registry holds no database; start it with an empty db-folder, and the nodes announce themselves")
	case cfg.Role == config.RoleMaster && cfg.Nexus.Join:
		return errors.New("--restore-from: a node with nexus-join gets its state from the members; restore the first member, and start this one with an empty db-folder")
	case cfg.Role == config.RoleMaster && len(cfg.Nexus.ClusterURLs) > 1:
		return fmt.Errorf("--restore-from: nexus-cluster-url names %d first members, and only one of them can begin with the state of a backup; let it name only this node, "+
			"and start the others with empty folders and --nexus-join when it serves (dkvctl -addNode)", len(cfg.Nexus.ClusterURLs))
	}
	return nil
}

// restore is one restore of all vBuckets of a node.
type restore struct {
	cfg   *config.Config
	log   *slog.Logger
	out   io.Writer
	after func(step string) error
	// from is the absolute path of the backup.
	from string
	node *node.Node
	// parts are the backups, in hash order.
	parts []part
}

// part is the backup of one vBucket, and what has become of it.
type part struct {
	vBucket, dir string
	backup.Manifest
	// history and index are those with which the restored state begins.
	history string
	index   kv.Index
}

// verify reads all of the backup.
func (r *restore) verify(ctx context.Context) (err error) {
	layout := node.LayoutOf(r.cfg)
	all := len(layout.VBuckets)
	if all > 1 && backup.IsOne(r.from) {
		return fmt.Errorf("--restore-from %s is the backup of one vBucket, and this node has vbuckets: %d; name the folder that holds those of all of them", r.from, all)
	}
	var set []backup.Part
	for _, name := range layout.VBuckets {
		p := part{vBucket: name, dir: r.from}
		if all > 1 {
			p.dir = filepath.Join(r.from, name)
		}
		checked, err := backup.Check(p.dir, backup.Layout{VBucket: name, VBuckets: all})
		if err != nil {
			return fmt.Errorf("--restore-from: %w", err)
		}
		r.parts, set = append(r.parts, p), append(set, checked)
	}
	if err := backup.Together(set); err != nil {
		return fmt.Errorf("--restore-from: %w", err)
	}
	first, bytes := &r.parts[0], uint64(0)
	for i := range r.parts {
		p := &r.parts[i]
		if p.Manifest, err = backup.Verify(ctx, p.dir); err != nil {
			return fmt.Errorf("--restore-from: %w", err)
		}
		bytes += p.Bytes()
	}
	of := ""
	if first.Database != layout.Database {
		of = fmt.Sprintf(", which becomes database %s", layout.Database)
	}
	return r.write(fmt.Sprintf("Verified: %s is a backup of database %s%s (%s, %.1f MiB), made at %s.",
		r.from, first.Database, of, count(all, "vBucket"), float64(bytes)/(1<<20), first.Created.UTC().Format(time.RFC3339)))
}

// run makes the folder that of a node with what was verified.
func (r *restore) run(ctx context.Context) (err error) {
	r.node = node.Offline(r.cfg, r.log)
	defer func() { err = errors.Join(err, r.node.Close()) }()
	if err := r.node.OpenFolderToRestore(r.cfg.Storage.BackupDir, r.cfg.Nexus.LogDir, r.from); err != nil {
		return err
	}
	if has, err := host.HasLog(r.cfg.Nexus.LogDir); err != nil {
		return fmt.Errorf("nexus-log-dir: %w", err)
	} else if has {
		return fmt.Errorf("nexus-log-dir %s holds a Raft log, and a restore begins a new one; nothing was changed: choose another folder, or move what is there away", r.cfg.Nexus.LogDir)
	}
	if err := r.fits(); err != nil {
		return fmt.Errorf("--restore-from: %w; nothing was changed", err)
	}
	if err := r.node.Dir.BeginRestore(r.from); err != nil {
		return err
	}
	err = r.after("begun")
	if err == nil {
		err = r.fill(ctx)
	}
	if err != nil {
		return r.drop(err)
	}
	if err := r.node.Dir.EndRestore(); err != nil {
		return err
	}
	return r.report()
}

// drop leaves an empty folder after an error, unless that is a test's crash.
func (r *restore) drop(err error) error {
	if errors.Is(err, errCrash) {
		return err
	}
	if dropped := r.node.Dir.DropRestore(); dropped != nil {
		return fmt.Errorf("restore: %w; what it has made stays until the next --restore-from, and nothing of it is served: %w", err, dropped)
	}
	return fmt.Errorf("restore: %w; db-folder is as empty as it was", err)
}

// errCrash ends a test's restore as a crash does.
var errCrash = errors.New("crash")

// fits checks that there is room for the copies.
func (r *restore) fits() error {
	need := uint64(0)
	for i := range r.parts {
		size := r.parts[i].Bytes()
		if need += size; !r.asIs(&r.parts[i].Info) {
			need += size // and the copy that the pairs are read from
		}
	}
	return r.node.Guard.Fits(need)
}

// fill makes the states of all vBuckets.
func (r *restore) fill(ctx context.Context) error {
	whole := ctx
	if len(r.parts) > 1 {
		whole, _ = era.RestoreWhole(ctx)
	}
	for i := range r.parts {
		if err := r.fillOne(whole, &r.parts[i]); err != nil {
			return fmt.Errorf("vBucket %s: %w", r.parts[i].vBucket, err)
		}
		if err := r.after("filled " + r.parts[i].vBucket); err != nil {
			return err
		}
	}
	return nil
}

// report says what there is now, and what is to be done.
func (r *restore) report() error {
	lines := []string{fmt.Sprintf("Restored: db-folder %s holds database %s, as the start of a new cluster.", r.cfg.Storage.DBFolder, r.node.Layout.Database)}
	for i := range r.parts {
		p := &r.parts[i]
		lines = append(lines, fmt.Sprintf("  vBucket %s: as of index %d of history %s; goes on in history %s, above index %d", p.vBucket, p.Index, p.History, p.history, p.index))
	}
	next := "Start the node, with the same options but --restore-from."
	if r.cfg.Role == config.RoleMaster {
		next += " It is the only member of its cluster: start others with empty folders and --nexus-join, and add them (dkvctl -addNode)."
	}
	return r.write(append(lines, next)...)
}

func (r *restore) write(lines ...string) error {
	if _, err := io.WriteString(r.out, strings.Join(lines, "\n")+"\n"); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

// count is a number of things.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
