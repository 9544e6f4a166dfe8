package succession

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// asidePrefix begins the names of the folders that rejoins leave in the data folder.
const asidePrefix = datadir.AsideName

// beforeEra begins the names of those with what was there before the master of an era.
const beforeEra = asidePrefix + "before-era-"

// exportBytes bounds the changes that are exported at a time.
const exportBytes = 4 << 20

// rejoin sets the data of a former master aside, after what the new masters lack of it was
// written out as JSON lines, so that the node begins as a slave. A crash at any point is
// gone over by the next call.
func rejoin(ctx context.Context, cfg *config.Config, s *promotion.Superseded, log *slog.Logger) error {
	dir, aside := cfg.Storage.DBFolder, Aside(s.Era)
	n := node.Offline(cfg, log)
	switch holds, err := datadir.Holds(dir); {
	case errors.Is(err, fs.ErrNotExist):
		s.Exported = true // the folder was set aside already
	case err != nil:
		return err
	default:
		n.Layout.Holds = holds // a promoted slave may be configured as one
	}
	if err := n.OpenFolder(nil); err != nil {
		return err
	}
	lost, err := export(ctx, n, s, aside)
	if err == nil {
		err = SetLogAside(cfg, aside, log)
	}
	if err == nil {
		// A master's log goes too: entries that were not applied here may have been acknowledged.
		err = n.Dir.SetAside(aside, bootstrap.Files()...)
	}
	if err = errors.Join(err, n.Close()); err != nil {
		return err
	}
	s.Rejoined = true
	if err := errors.Join(promotion.ForgetStop(dir), s.Write(dir)); err != nil {
		return err
	}
	log.Warn("this former master becomes a slave; its data is set aside until dkvctl -dropAside", "era", s.Era, "folder", filepath.Join(dir, aside), "lost-changes", lost)
	return nil
}

// Aside is the name of the folder with what was there before the masters of an era.
func Aside(era uint64) string { return fmt.Sprintf("%s%d", beforeEra, era) }

// SetLogAside moves the Raft log of a former master to the folder aside of the data folder, or
// beside itself if it is elsewhere. After a crash it is called again.
func SetLogAside(cfg *config.Config, aside string, log *slog.Logger) error {
	dir, nexus := cfg.Nexus.LogDir, config.NexusFolder(cfg.Storage.DBFolder)
	// They differ if a link leads from one to the other: then the place of the link stays.
	named, real := within(nexus, dir), config.Holds(nexus, dir)
	var err error
	switch {
	case holdsOthers(cfg, dir):
		err = setFilesAside(cfg, aside, log)
	case holdsOthers(cfg, nexus) || !named || !real:
		err = datadir.MoveAway(dir, logAside(dir, aside), aside)
		if synced := durable.SyncDir(filepath.Dir(dir)); err == nil && !errors.Is(synced, fs.ErrNotExist) && !errors.Is(synced, fs.ErrPermission) {
			err = synced
		}
	}
	if err == nil && named == real && !holdsOthers(cfg, nexus) {
		err = datadir.MoveAway(nexus, filepath.Join(cfg.Storage.DBFolder, aside, filepath.Base(nexus)), aside)
	}
	if err != nil {
		return fmt.Errorf("set the Raft log aside: %w", err)
	}
	return nil
}

// setFilesAside moves the log out of a folder that holds others, which stay where they are.
func setFilesAside(cfg *config.Config, aside string, log *slog.Logger) error {
	dir := cfg.Nexus.LogDir
	names, unread, err := host.Files(dir)
	if err != nil {
		return err
	}
	if len(unread) > 0 {
		log.Warn("folders in nexus-log-dir cannot be read: a Raft log of this node in one of them stays there, move it away by hand", "dir", dir, "folders", unread)
	}
	for _, name := range names {
		from, to := filepath.Join(dir, name), filepath.Join(dir, aside, name)
		if holdsOthers(cfg, from) {
			return fmt.Errorf("%s is of the log, and db-folder or backup-dir is in it: name other folders", from)
		}
		if err := datadir.MoveAway(from, to, aside); err != nil {
			return err
		}
		if err := errors.Join(durable.SyncDir(filepath.Dir(to)), durable.SyncDir(filepath.Dir(from))); err != nil {
			return err
		}
	}
	return nil
}

// holdsOthers reports whether a folder must not be moved or deleted as a whole: the data folder,
// which is in use, the backups, or files that the configuration names are in it, or only a link on
// the way to them.
func holdsOthers(cfg *config.Config, folder string) bool {
	return slices.ContainsFunc(cfg.PathsBesideLog(), func(path string) bool { return config.LeadsThrough(folder, path) })
}

// within reports whether a path is a folder or in it.
func within(dir, path string) bool {
	inside, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(inside)
}

// logAside is where a Raft log is set aside to that is not in the data folder.
func logAside(dir, aside string) string { return filepath.Clean(dir) + "." + aside }

// export writes the changes that the new masters lack to JSON lines, and returns how many
// there are.
func export(ctx context.Context, n *node.Node, s *promotion.Superseded, aside string) (lost int, err error) {
	if s.Exported {
		return 0, nil
	}
	to := filepath.Join(n.Dir.Path(), aside)
	if err := durable.MkdirAll(to); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(filepath.Join(to, "lost-changes.jsonl"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for _, name := range n.Layout.VBuckets {
		more, err := exportVBucket(ctx, n, name, s.Ends[name], f)
		if err != nil {
			return lost, fmt.Errorf("export the changes of vBucket %s above %d: %w", name, s.Ends[name], err)
		}
		lost += more
	}
	if err := errors.Join(f.Sync(), durable.SyncDir(to)); err != nil {
		return lost, err
	}
	s.Exported = true
	return lost, s.Write(n.Dir.Path())
}

func exportVBucket(ctx context.Context, n *node.Node, name string, end kv.Index, f *os.File) (lost int, err error) {
	generations, err := n.Dir.VBucket(name)
	if err != nil {
		return 0, err
	}
	engine, err := n.Engines.Open(generations.Current())
	if err != nil {
		return 0, node.OpenError(err)
	}
	m, err := fsm.New(engine)
	if err != nil {
		return 0, errors.Join(err, engine.Close())
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return exportAbove(ctx, m, name, end, f, n.Log)
}

// trimmed is the first line of a vBucket some of whose changes are no longer retained: which
// of them may be missing in what follows.
type trimmed struct {
	VBucket string `json:"vbucket"`
	From    uint64 `json:"not_retained_from"`
	To      uint64 `json:"not_retained_to"`
}

// exportAbove writes the changes after end, and says which of them are no longer retained.
func exportAbove(ctx context.Context, m *fsm.Machine, name string, end kv.Index, f io.Writer, log *slog.Logger) (lost int, err error) {
	oldest := m.ChangelogFloor()
	if oldest > end+1 && m.Applied() > end {
		gone := trimmed{VBucket: name, From: end + 1, To: min(oldest-1, m.Applied())}
		log.Warn("not all changes that the new masters lack can be exported: the oldest are no longer retained, and only the folder that is set aside has their effects",
			"vbucket", name, "from", gone.From, "to", gone.To)
		raw, err := json.Marshal(gone)
		if err == nil {
			_, err = f.Write(append(raw, '\n'))
		}
		if err != nil {
			return 0, err
		}
	}
	for from := max(end+1, oldest); ctx.Err() == nil; {
		part, err := m.Changes(from, 0, exportBytes)
		if err != nil {
			return lost, err
		}
		if len(part.Changes) == 0 {
			return lost, nil
		}
		for i := range part.Changes {
			if err := writeChange(f, name, &part.Changes[i]); err != nil {
				return lost, err
			}
		}
		lost += len(part.Changes)
		from = part.Changes[len(part.Changes)-1].Index + 1
	}
	return lost, ctx.Err()
}

// exported is a mutation as a line of JSON. What is not UTF-8 is in base64.
type exported struct {
	VBucket     string  `json:"vbucket"`
	Index       uint64  `json:"index"`
	Millis      uint64  `json:"clock_millis"`
	Key         string  `json:"key,omitempty"`
	KeyBase64   string  `json:"key_base64,omitempty"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 string  `json:"value_base64,omitempty"`
	ExpireTS    uint64  `json:"expire_ts,omitempty"`
	Deleted     bool    `json:"deleted,omitempty"`
}

func writeChange(f io.Writer, vBucket string, c *kv.Change) error {
	var out strings.Builder
	for i := range c.Mutations {
		m := &c.Mutations[i]
		line := exported{VBucket: vBucket, Index: c.Index, Millis: uint64(c.Clock), ExpireTS: m.ExpireTS, Deleted: m.Delete}
		if utf8.Valid(m.Key) {
			line.Key = string(m.Key)
		} else {
			line.KeyBase64 = base64.StdEncoding.EncodeToString(m.Key)
		}
		switch value := string(m.Value); {
		case m.Delete:
		case utf8.ValidString(value):
			line.Value = &value
		default:
			line.ValueBase64 = base64.StdEncoding.EncodeToString(m.Value)
		}
		raw, err := json.Marshal(line)
		if err != nil {
			return err
		}
		out.Write(append(raw, '\n'))
	}
	_, err := io.WriteString(f, out.String())
	return err
}

// DropAside deletes what rejoins have set aside in a data folder, and of a Raft log elsewhere,
// and returns the folders and how many bytes they had.
func DropAside(cfg *config.Config) (folders []string, bytes uint64, err error) {
	dir, logDir := cfg.Storage.DBFolder, filepath.Clean(cfg.Nexus.LogDir)
	inData, err := aside(dir, asidePrefix)
	if err != nil {
		return nil, 0, err
	}
	var all []string
	nexus := config.NexusFolder(dir)
	around := filepath.Dir(logDir)
	for _, in := range [][2]string{{around, filepath.Base(logDir) + "." + beforeEra}, {nexus, beforeEra}, {logDir, beforeEra}} {
		more, err := aside(in[0], in[1])
		if in[0] == around && errors.Is(err, fs.ErrPermission) {
			more, err = besideLog(logDir, inData)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, 0, err
		}
		for _, folder := range more {
			if !contains(inData, folder) && !contains(all, folder) {
				all = append(all, folder)
			}
		}
	}
	all = append(all, inData...) // last, since besideLog needs them for what is left of a log
	all = slices.DeleteFunc(all, func(folder string) bool {
		info, err := os.Lstat(folder) // of a link, nothing but the link itself is deleted
		return err == nil && info.IsDir() && holdsOthers(cfg, folder)
	})
	var left []string
	for _, folder := range all {
		if slices.Contains(inData, folder) && slices.Contains(left, logAside(logDir, filepath.Base(folder))) {
			continue // the next call finds that log by this folder
		}
		size, failed := diskspace.FilesIn(folder)
		if failed == nil {
			failed = removeAll(folder)
		}
		if failed != nil {
			err, left = errors.Join(err, failed), append(left, folder)
			continue
		}
		folders, bytes = append(folders, folder), bytes+size
	}
	return folders, bytes, err
}

// contains reports whether a folder is one of several, whatever links lead to it: the Raft log's may be
// named by another path than that of the data folder which it is in.
func contains(folders []string, folder string) bool {
	own, err := os.Lstat(folder)
	return slices.ContainsFunc(folders, func(path string) bool {
		other, failed := os.Lstat(path)
		return path == folder || err == nil && failed == nil && os.SameFile(own, other)
	})
}

// besideLog returns the folders to which rejoins have moved the log beside itself, if the folder
// around them cannot be listed: each is named like one in the data folder.
func besideLog(logDir string, inData []string) (folders []string, err error) {
	for _, folder := range inData {
		if !strings.HasPrefix(filepath.Base(folder), beforeEra) {
			continue
		}
		beside := logAside(logDir, filepath.Base(folder))
		switch _, err := os.Lstat(beside); {
		case err == nil:
			folders = append(folders, beside)
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
			return nil, err
		}
	}
	return folders, nil
}

// removeAll deletes a folder, durably, also in one that cannot be listed, which os.RemoveAll opens.
func removeAll(folder string) error {
	err := os.RemoveAll(folder)
	if info, lost := os.Lstat(folder); lost == nil && info.IsDir() && errors.Is(err, fs.ErrPermission) {
		var entries []fs.DirEntry
		entries, err = os.ReadDir(folder)
		for _, e := range entries {
			err = errors.Join(err, os.RemoveAll(filepath.Join(folder, e.Name())))
		}
		err = errors.Join(err, os.Remove(folder))
	}
	if err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(folder)); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// aside returns the folders in dir whose names begin with prefix.
func aside(dir, prefix string) (folders []string, err error) {
	names, err := datadir.Named(dir, prefix)
	for _, name := range names {
		folders = append(folders, filepath.Join(dir, name))
	}
	return folders, err
}
