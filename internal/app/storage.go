package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
	"github.com/dkvdb/dkv/internal/version"
)

// checkStart refuses what a start would refuse and can be told without opening
// anything, what this version cannot do among it: better than doing less than was
// asked for.
func checkStart(cfg *config.Config) error {
	if cfg.Role == config.RoleNone && cfg.Node.VBuckets > 1 {
		return fmt.Errorf("vbuckets is %d, but a standalone node has one vBucket; leave it at 1", cfg.Node.VBuckets)
	}
	if ini := cfg.Storage.EngineINI; ini != "" {
		if fi, err := os.Stat(ini); err != nil {
			return fmt.Errorf("db-engine-ini: %w; name a file with RocksDB options, or leave the key empty", err)
		} else if fi.IsDir() {
			return fmt.Errorf("db-engine-ini: %s is a folder; name a file with RocksDB options, or leave the key empty", ini)
		}
	}
	if err := checkBadgerFits(cfg, int64(config.ThisHost().Memory())); err != nil {
		return err
	}
	if fi, err := os.Stat(cfg.Storage.BackupDir); err == nil && !fi.IsDir() {
		return fmt.Errorf("backup-dir: %s is a file; name a folder, which need not exist yet", cfg.Storage.BackupDir)
	}
	return nil
}

// vBucketNames are the names of the parts that the database is cut into, in hash
// order: a single one has the name that the user gave it, several are numbered.
func vBucketNames(cfg *config.Config) []string {
	if cfg.Role == config.RoleDiscovery {
		return []string{registryVBucket}
	}
	if cfg.Node.VBuckets == 1 {
		return []string{cfg.Node.VBucket}
	}
	names := make([]string, cfg.Node.VBuckets)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}

// contents is what the folder of a node of a role holds; a database, where it is not
// among them.
var contents = map[config.Role]datadir.Contents{
	config.RoleSlave:     datadir.Copy,
	config.RoleDiscovery: datadir.Registry,
}

// openFolder locks the data folder and looks at the disk below it. The engines in it
// are wrapped by wrap, unless that is nil.
func (n *node) openFolder(wrap func(storage.Engine) storage.Engine) error {
	cfg := &n.cfg.Storage
	var err error
	if n.engines, err = newEngines(cfg, len(vBucketNames(n.cfg)), n.log, wrap); err != nil {
		return err
	}
	n.onClose(func() error { n.engines.close(); return nil })
	if cfg.Diskless {
		return nil
	}
	names, vBucket := vBucketNames(n.cfg), n.cfg.Node.VBucket
	if len(names) == 1 {
		vBucket = names[0]
	}
	n.dir, err = datadir.Open(cfg.DBFolder, datadir.Identity{
		Engine:   string(cfg.Engine),
		Database: n.database(),
		VBucket:  vBucket,
		VBuckets: len(names),
		Holds:    contents[n.cfg.Role],
	})
	if err != nil {
		return err
	}
	n.onClose(n.dir.Close)
	if err := n.keepName(); err != nil {
		return err
	}
	if n.guard, err = n.newGuard(cfg.DBFolder); err != nil {
		return err
	}
	if usage := n.guard.Usage(); usage.Reserve >= usage.Total {
		return fmt.Errorf("disk-reserve: %d MiB are to be kept free of a file system of %d MiB, so that nothing could be written; lower it",
			usage.Reserve>>20, usage.Total>>20)
	}
	n.guard.AtLeast(n.engines.leastFree())
	return nil
}

// keepName records a derived node-name, so that this node finds its folder again
// when the host has another name.
func (n *node) keepName() error {
	if !n.cfg.KeepsName() {
		return nil
	}
	path := filepath.Join(n.cfg.Storage.RootFolder, config.NodeNameFile)
	if err := datadir.WriteFile(path, []byte(n.cfg.Node.Name+"\n")); err != nil {
		return fmt.Errorf("record node-name: %w; set --node-name, or let this user write to root-folder", err)
	}
	return nil
}

func (n *node) newGuard(dir string) (*diskspace.Guard, error) {
	return diskspace.New(dir, func(total uint64) uint64 {
		return uint64(n.cfg.Storage.ReserveOf(config.Size(total)))
	})
}

// stateOptions are those of a vBucket's replica, whatever keeps its log.
func (n *node) stateOptions(name string) (replica.StateOptions, error) {
	opts := replica.StateOptions{
		Database: n.database(),
		VBucket:  name,
		VBuckets: len(vBucketNames(n.cfg)),
		Open:     n.engines.open,
		OpenKind: n.engines.openKind,
		Guard:    n.guard,
		Retention: changelog.Retention{
			MaxBytes: uint64(n.cfg.Changelog.MaxBytes),
			MaxAge:   n.cfg.Changelog.MaxAge,
		},
		Clock:   n.clock,
		Reads:   n.reads,
		Version: version.String(),
		Log:     n.log,
	}
	if n.dir == nil {
		return opts, nil
	}
	var err error
	opts.Generations, err = n.dir.VBucket(name)
	return opts, err
}

// openAlone opens the state of a node that is alone.
func (n *node) openAlone(context.Context) error {
	if n.dir != nil {
		if member, err := bootstrap.HasIdentity(n.dir.Path()); err != nil {
			return err
		} else if member {
			return fmt.Errorf("db-folder %s: it is a master's, whose log the other members keep too; start it with --role master, or choose another folder", n.dir.Path())
		}
	}
	name := vBucketNames(n.cfg)[0]
	opts, err := n.stateOptions(name)
	if err != nil {
		return err
	}
	local, err := replica.OpenLocal(replica.LocalOptions{StateOptions: opts, BatchLimit: n.engines.batchLimit()})
	if err != nil {
		return fmt.Errorf("open storage: %w%s", err, advice(err))
	}
	n.onClose(local.Close)
	n.vBuckets = []vBucket{{name, local}}
	n.info.ID, n.info.Cluster = master.StandaloneID, local.Status().Identity.Cluster
	if n.dir != nil {
		return n.dir.Claim()
	}
	return nil
}

// advice is what to do about storage that does not open, where the error does
// not say it itself.
func advice(err error) string {
	switch {
	case strings.Contains(err.Error(), "restore "):
		return ""
	case errors.Is(err, storage.ErrCorrupt):
		return "; restore a backup into an empty db-folder"
	case storage.Shortage(err) == storage.ErrNoSpace:
		return "; make room on the file system of db-folder and start again"
	case storage.Shortage(err) != nil:
		return "; " + storage.Remedy(err) + ", and start again"
	}
	return ""
}
