package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dkvdb/dkv/internal/auth/identify"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
	"github.com/dkvdb/dkv/internal/version"
)

// CheckStart rejects what a start would reject and can be known without opening
// anything, including what this version cannot do: that is better than doing less than
// was asked for.
func CheckStart(cfg *config.Config) error {
	if cfg.ConfiguredRole() == config.RoleNone && cfg.Node.VBuckets > 1 {
		return fmt.Errorf("vbuckets is %d, but a standalone node has one vBucket; leave it at 1", cfg.Node.VBuckets)
	}
	if ini := cfg.Storage.EngineINI; ini != "" {
		if fi, err := os.Stat(ini); err != nil {
			return fmt.Errorf("db-engine-ini: %w; name a file with RocksDB options, or leave the key empty", err)
		} else if fi.IsDir() {
			return fmt.Errorf("db-engine-ini: %s is a folder; name a file with RocksDB options, or leave the key empty", ini)
		}
	}
	if err := checkCerts(cfg); err != nil {
		return err
	}
	if file := cfg.Security.AuthFile; file != "" {
		if err := identify.Check(file); err != nil {
			return err
		}
	}
	if _, _, err := readKeys(&cfg.Storage); err != nil {
		return err
	}
	if err := checkBadgerFits(cfg, int64(config.ThisHost().Memory())); err != nil {
		return err
	}
	if err := checkLogs(&cfg.Log); err != nil {
		return err
	}
	if fi, err := os.Stat(cfg.Storage.BackupDir); err == nil && !fi.IsDir() {
		return fmt.Errorf("backup-dir: %s is a file; name a folder, which need not exist yet", cfg.Storage.BackupDir)
	}
	return nil
}

// checkLogs rejects files of logs in folders that do not exist: none is made for them.
func checkLogs(cfg *config.Log) error {
	for _, f := range []struct{ key, path string }{{"access-log", cfg.Access}, {"audit-log", cfg.Audit}} {
		if f.path == "" || f.key == "access-log" && f.path == config.CommonLog {
			continue
		}
		dir := filepath.Dir(f.path)
		if fi, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !fi.IsDir() {
			return fmt.Errorf("%s: %s is not a folder; make it, and let the user that dkvsrv runs as write to it", f.key, dir)
		}
		if fi, err := os.Stat(f.path); err == nil && fi.IsDir() {
			return fmt.Errorf("%s: %s is a folder; name a file in it", f.key, f.path)
		}
	}
	return nil
}

// openDir locks a data folder; datadir.Open, or what a restore needs.
type openDir func(path string, id datadir.Identity) (*datadir.Dir, error)

// openDir locks the data folder and looks at the disk below it.
func (n *Node) openDir(open openDir) error {
	cfg := &n.Config.Storage
	var err error
	n.Dir, err = open(cfg.DBFolder, datadir.Identity{
		Engine:   string(cfg.Engine),
		Database: n.Layout.Database,
		VBucket:  n.Layout.VBucket,
		VBuckets: len(n.Layout.VBuckets),
		Holds:    n.Layout.Holds,
	})
	if err != nil {
		return err
	}
	n.OnClose(n.Dir.Close)
	n.Private(cfg.DBFolder, n.Dir.Claimed())
	n.warnOfSharedBackups()
	if err := n.keepName(); err != nil {
		return err
	}
	if n.Guard, err = n.NewGuard(cfg.DBFolder); err != nil {
		return err
	}
	if usage := n.Guard.Usage(); usage.Reserve >= usage.Total {
		return fmt.Errorf("disk-reserve: %d MiB are to be kept free of a file system of %d MiB, so that nothing could be written; lower it",
			usage.Reserve>>20, usage.Total>>20)
	}
	n.Guard.AtLeast(n.Engines.leastFree())
	n.Guard.Requires(n.Dir.Gone)
	return nil
}

// keepName records a derived node-name, so that this node finds its folder again
// when the host has another name.
func (n *Node) keepName() error {
	if !n.Config.KeepsName() {
		return nil
	}
	path := filepath.Join(n.Config.Storage.RootFolder, config.NodeNameFile)
	if err := durable.WriteFile(path, []byte(n.Config.Node.Name+"\n")); err != nil {
		return fmt.Errorf("record node-name: %w; set --node-name, or let this user write to root-folder", err)
	}
	return nil
}

// NewGuard watches the disk that a folder is on, with the configured reserve.
func (n *Node) NewGuard(dir string) (*diskspace.Guard, error) {
	return diskspace.New(dir, func(total uint64) uint64 {
		return uint64(n.Config.Storage.ReserveOf(config.Size(total)))
	})
}

// LogRoom returns what logs that a guard begins to reject writes, and that it ends to.
func (n *Node) LogRoom(guard *diskspace.Guard) func(low bool) {
	return func(low bool) {
		disk := guard.Usage()
		room := []any{"path", guard.Path(), "free", disk.Free, "total", disk.Total, "reserve", disk.Reserve}
		switch fault := guard.Fault(); {
		case fault != nil:
			n.Log.Error("writes are rejected", "error", fault)
		case low:
			n.Log.Error("the disk is nearly full: writes are rejected until there is room", room...)
		default:
			n.Log.Info("there is room on the disk again: writes are accepted", room...)
		}
	}
}

// StateOptions are those of a vBucket's replica, whatever keeps its log.
func (n *Node) StateOptions(name string) (state.Options, error) {
	opts := state.Options{
		Database: n.Layout.Database,
		VBucket:  name,
		VBuckets: len(n.Layout.VBuckets),
		Open:     n.Engines.Open,
		OpenKind: n.Engines.openKind,
		Guard:    n.Guard,
		Retention: changelog.Retention{
			MaxBytes: uint64(n.Config.Changelog.MaxBytes),
			MaxAge:   n.Config.Changelog.MaxAge,
		},
		Clock:   n.Clock,
		Changed: &n.Changed,
		Reads:   n.Reads,
		Version: version.String(),
		Log:     n.Log,
	}
	if n.Dir == nil {
		return opts, nil
	}
	var err error
	opts.Generations, err = n.Dir.VBucket(name)
	return opts, err
}

// Claim records that the data folder is in use: another kind of node may not take it
// from now on.
func (n *Node) Claim() error {
	if n.Dir == nil {
		return nil
	}
	return n.Dir.Claim()
}

// OpenError is the error of storage that does not open, with what to do about it.
func OpenError(err error) error { return fmt.Errorf("open storage: %w%s", err, advice(err)) }

// StartError is the error of a start, with what to do about a disk that takes nothing, unless it
// says that itself.
func StartError(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "make room "), strings.Contains(text, "restore "):
		return err
	case storage.Shortage(err) == storage.ErrNoSpace:
		return fmt.Errorf("%w; make room on that file system and start again", err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; dmesg says why that file system cannot be written to; repair it, mount it for writing and start again", err)
	}
	return err
}

// advice is what to do about storage that does not open, if the error does not say it
// itself.
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
