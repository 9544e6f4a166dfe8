package succession

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// What is deleted is in the data folder, whatever its path means as a pattern, and what a link
// there leads to stays.
func TestDropAsideDeletesInItsOwnFolderOnly(t *testing.T) {
	root := t.TempDir()
	own, other := filepath.Join(root, "node[1]"), filepath.Join(root, "node1")
	for _, path := range []string{own, other} {
		if err := os.MkdirAll(filepath.Join(path, "aside-before-era-1", "vbucket-default"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	kept := filepath.Join(root, "kept")
	if err := os.WriteFile(kept, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(root, filepath.Join(own, "aside-link")); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(root, "log")
	for _, path := range []string{log, logAside(log, "aside-before-era-1"), logAside(log+"2", "aside-before-era-1")} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cfg := &config.Config{}
	cfg.Storage.DBFolder, cfg.Nexus.LogDir, cfg.Storage.BackupDir = own, log, filepath.Join(own, "backups")
	folders, _, err := DropAside(cfg)
	want := []string{logAside(log, "aside-before-era-1"), filepath.Join(own, "aside-before-era-1"), filepath.Join(own, "aside-link")}
	if err != nil || !reflect.DeepEqual(folders, want) {
		t.Errorf("%v, %v", folders, err)
	}
	for _, path := range []string{kept, log, logAside(log+"2", "aside-before-era-1"), filepath.Join(other, "aside-before-era-1")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// An export says which changes it cannot have, and has values that are no text.
func TestExportSaysWhatIsNotRetained(t *testing.T) {
	engine, err := memory.Open(memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := fsm.New(engine)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := kv.Index(1); i <= 4; i++ {
		c := kv.Change{Index: i, Clock: kv.Clock(i), Mutations: []kv.Mutation{{Key: []byte("k"), Value: []byte{0xff, byte(i)}}}}
		if err := m.Replicate([]kv.Change{c}, i, false); err != nil {
			t.Fatal(err)
		}
	}
	export := func(end kv.Index) string {
		t.Helper()
		var out strings.Builder
		if _, err := exportAbove(t.Context(), m, "default", end, &out, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := export(2); strings.Contains(got, "not_retained") || strings.Count(got, "\n") != 2 || !strings.Contains(got, `"value_base64":"/wM="`) {
		t.Errorf("all are retained: %s", got)
	}
	if _, err := m.TrimChangelog(changelog.Retention{MaxBytes: 1}); err != nil || m.ChangelogFloor() != 4 {
		t.Fatal(m.ChangelogFloor(), err)
	}
	got := export(1)
	if !strings.HasPrefix(got, `{"vbucket":"default","not_retained_from":2,"not_retained_to":3}`+"\n") || strings.Count(got, "\n") != 2 {
		t.Errorf("2 and 3 are not retained: %s", got)
	}
	if got := export(3); strings.Contains(got, "not_retained") {
		t.Errorf("the master has what is not retained: %s", got)
	}
}

// A history that ended before its first change cuts the ones before it at the same index; of what
// was before a restore nothing is kept.
func TestEndsOfALineage(t *testing.T) {
	got := endsOf([]*peerpb.FormerHistoryOf{{History: "x", End: 7}, {History: "r", End: 0}, {History: "a", End: 10}, {History: "1-b", End: 5}, {History: "2-c", End: 1000}})
	if want := map[string]kv.Index{"x": 0, "r": 0, "a": 5, "1-b": 5, "2-c": 1000}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

// A Raft log in the data folder that does not go with it is set aside beside itself.
func TestLogInTheDataFolderIsSetAside(t *testing.T) {
	db := t.TempDir()
	cfg := &config.Config{}
	cfg.Storage.DBFolder, cfg.Nexus.LogDir, cfg.Storage.BackupDir = db, filepath.Join(db, "raft"), filepath.Join(db, "backups")
	if err := os.MkdirAll(filepath.Join(cfg.Nexus.LogDir, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := SetLogAside(cfg, "aside-before-era-1", slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(cfg.Nexus.LogDir); err == nil {
		t.Error("the log of the former masters is still there")
	}
	if folders, _, err := DropAside(cfg); err != nil || len(folders) != 1 {
		t.Errorf("%v, %v", folders, err)
	}
}

// Whatever folders are in one another, a rejoin leaves nothing of the log to be found, and neither
// it nor -dropAside touches the data folder in use, backups and what else is there.
func TestFoldersInOneAnother(t *testing.T) {
	const machine, entries = "machine", "machine/00000000000000000007/wal/1.wal"
	for name, tt := range map[string]struct{ db, log, backups, linked string }{
		"all apart":                  {"db", "log", "backups", ""},
		"all in the data folder":     {"db", "db/nexus/log", "db/backups", ""},
		"backups in the log":         {"db", "log", "log/backups", ""},
		"backups are in the log":     {"db", "log", "log", ""},
		"backups in the default log": {"db", "db/nexus/log", "db/nexus/log/backups", ""},
		"backups beside the log":     {"db", "db/nexus/log", "db/nexus", ""},
		"data in the log":            {"disk/db", "disk", "disk/db/backups", ""},
		"data with a machine's log":  {"disk/" + machine, "disk", "disk/backups", ""},
		"backups that look old":      {"db", "db/nexus/log", "db/aside-backups", ""},
		"a link to the log":          {"db", "log", "backups", "log"},
		"a link to the default log":  {"db", "db/nexus/log", "db/backups", "db/nexus/log"},
		"a link around the log":      {"db", "db/nexus/log", "db/backups", "db/nexus"},
		"a link to all":              {"db", "log", "log/backups", "log"},
		"a link to backups":          {"db", "log", "log/backups", "log/backups"},
		"a link to the data":         {"disk/db", "disk", "backups", "disk/db"},
		"a link among the backups":   {"db", "db/nexus/log", "db/nexus/backups", "db/nexus/backups"},
		"a link on the way to data":  {"disk/x/y/db", "disk", "backups", "disk/x"},
		"a link above the backups":   {"db", "log", "log/x/backups", "log/x"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			at := func(path ...string) string { return filepath.Join(append([]string{root}, path...)...) }
			cfg := &config.Config{}
			cfg.Storage.DBFolder, cfg.Nexus.LogDir, cfg.Storage.BackupDir = at(tt.db), at(tt.log), at(tt.backups)
			if tt.linked != "" {
				mkdir(t, filepath.Dir(at(tt.linked)))
				mkdir(t, at("elsewhere"))
				if err := os.Symlink(at("elsewhere"), at(tt.linked)); err != nil {
					t.Fatal(err)
				}
			}
			stays := []string{at(tt.db, "LOCK"), at(tt.backups, "monday", "MANIFEST.json")}
			moved := []string{at(tt.log, entries), at(tt.log, "layout.json")}
			for _, path := range append(stays, moved...) {
				mkdir(t, filepath.Dir(path))
				if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := SetLogAside(cfg, "aside-before-era-1", slog.New(slog.DiscardHandler)); err != nil {
					t.Fatal(err)
				}
			}
			if has, err := host.HasLog(cfg.Nexus.LogDir); has || err != nil {
				t.Error("the log is still there", err)
			}
			if _, bytes, err := DropAside(cfg); err != nil || bytes != uint64(len(moved)) {
				t.Errorf("%d bytes were deleted, %v", bytes, err)
			}
			for _, path := range stays {
				if _, err := os.Stat(path); err != nil {
					t.Error(err)
				}
			}
			if tt.linked != "" {
				if info, err := os.Lstat(at(tt.linked)); err != nil || info.Mode()&os.ModeSymlink == 0 {
					t.Error("the link is gone", err)
				}
			}
		})
	}
}

// The folder around that of the log may be one which the node may neither write to nor list.
func TestDropAsideBelowAnotherUsersFolder(t *testing.T) {
	root := t.TempDir()
	cfg := &config.Config{}
	cfg.Storage.DBFolder, cfg.Nexus.LogDir, cfg.Storage.BackupDir = filepath.Join(root, "db"), filepath.Join(root, "private", "log"), filepath.Join(root, "db", "backups")
	aside := filepath.Join(cfg.Nexus.LogDir, "aside-before-era-1")
	for _, path := range []string{cfg.Storage.DBFolder, aside} {
		mkdir(t, path)
	}
	modes := map[string]os.FileMode{root: 0o755, cfg.Storage.DBFolder: 0o777, cfg.Nexus.LogDir: 0o777, aside: 0o777, filepath.Dir(cfg.Nexus.LogDir): 0o311}
	for path, mode := range modes {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Chmod(filepath.Dir(cfg.Nexus.LogDir), 0o700)
	testkit.Unprivileged(t, root, func() {
		if folders, _, err := DropAside(cfg); err != nil || !reflect.DeepEqual(folders, []string{aside}) {
			t.Errorf("%v, %v", folders, err)
		}
	})
}

// Or one which it may write to and not list: the log was set aside beside itself there.
func TestDropAsideBelowAnUnlistedFolder(t *testing.T) {
	const aside = "aside-before-era-1"
	root := t.TempDir()
	cfg := &config.Config{}
	cfg.Storage.DBFolder, cfg.Nexus.LogDir, cfg.Storage.BackupDir = filepath.Join(root, "db"), filepath.Join(root, "drop", "log"), filepath.Join(root, "db", "backups")
	inData, around, below := filepath.Join(cfg.Storage.DBFolder, aside), filepath.Dir(cfg.Nexus.LogDir), filepath.Join(cfg.Nexus.LogDir, "x")
	mkdir(t, inData)
	mkdir(t, below)
	if err := os.WriteFile(filepath.Join(below, "1.wal"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{root: 0o755, cfg.Storage.DBFolder: 0o777, inData: 0o777, around: 0o333, cfg.Nexus.LogDir: 0o777, below: 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Chmod(around, 0o700)
	testkit.Unprivileged(t, root, func() {
		if err := SetLogAside(cfg, aside, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if folders, bytes, err := DropAside(cfg); err != nil || bytes != 1 || !reflect.DeepEqual(folders, []string{logAside(cfg.Nexus.LogDir, aside), inData}) {
			t.Errorf("%v, %d bytes, %v", folders, bytes, err)
		}
	})
	if left, err := filepath.Glob(filepath.Join(around, "*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// What cannot be deleted keeps nothing else from being deleted, but the folder that names it.
func TestDropAsideGoesOnBehindAnError(t *testing.T) {
	root := t.TempDir()
	cfg := &config.Config{}
	cfg.Storage.DBFolder, cfg.Nexus.LogDir, cfg.Storage.BackupDir = filepath.Join(root, "db"), filepath.Join(root, "drop", "log"), filepath.Join(root, "db", "backups")
	first, second := filepath.Join(cfg.Storage.DBFolder, "aside-before-era-1"), filepath.Join(cfg.Storage.DBFolder, "aside-before-era-2")
	theirs := logAside(cfg.Nexus.LogDir, filepath.Base(first))
	for _, folder := range []string{first, second, theirs, cfg.Nexus.LogDir} {
		mkdir(t, folder)
	}
	for path, mode := range map[string]os.FileMode{root: 0o755, cfg.Storage.DBFolder: 0o777, first: 0o777, second: 0o777, filepath.Dir(theirs): 0o755, cfg.Nexus.LogDir: 0o777, theirs: 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Unprivileged(t, root, func() {
		if folders, _, err := DropAside(cfg); !errors.Is(err, fs.ErrPermission) || !slices.Equal(folders, []string{second}) {
			t.Errorf("%v, %v", folders, err)
		}
	})
	for _, folder := range []string{first, theirs} {
		if _, err := os.Lstat(folder); err != nil {
			t.Error(err)
		}
	}
}

// Other files that the configuration names may be in the folder of the log, as the audit log: they
// stay there, and are not deleted with it.
func TestFilesBesideTheLogStay(t *testing.T) {
	root := t.TempDir()
	cfg, log := &config.Config{}, filepath.Join(root, "log")
	cfg.Storage.DBFolder, cfg.Nexus.LogDir, cfg.Storage.BackupDir = filepath.Join(root, "db"), log, filepath.Join(root, "backups")
	cfg.Log.Audit, cfg.Security.TLSKeyFile = filepath.Join(log, "audit.log"), filepath.Join(log, "certs", "node.key")
	const entries = "machine/00000000000000000007/wal/1.wal"
	for _, path := range []string{cfg.Log.Audit, cfg.Security.TLSKeyFile, filepath.Join(log, entries)} {
		mkdir(t, filepath.Dir(path))
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mkdir(t, cfg.Storage.DBFolder)
	if err := SetLogAside(cfg, "aside-before-era-1", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, bytes, err := DropAside(cfg); err != nil || bytes != 1 {
		t.Errorf("%d bytes were deleted, %v", bytes, err)
	}
	for _, path := range []string{cfg.Log.Audit, cfg.Security.TLSKeyFile} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if has, err := host.HasLog(log); has || err != nil {
		t.Error("the log is still there", err)
	}
}

// A folder that two paths lead to is deleted once, and counted once.
func TestDropAsideByTwoPaths(t *testing.T) {
	root := t.TempDir()
	cfg, home := &config.Config{}, filepath.Join(root, "home")
	cfg.Storage.DBFolder, cfg.Nexus.LogDir, cfg.Storage.BackupDir = filepath.Join(root, "db"), filepath.Join(home, "nexus"), filepath.Join(home, "backups")
	mkdir(t, filepath.Join(cfg.Nexus.LogDir, "aside-before-era-1"))
	if err := os.Symlink(home, cfg.Storage.DBFolder); err != nil {
		t.Fatal(err)
	}
	if folders, _, err := DropAside(cfg); err != nil || len(folders) != 1 {
		t.Errorf("%v, %v", folders, err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}
