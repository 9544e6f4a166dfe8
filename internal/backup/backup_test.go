package backup

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// content is an engine directory, by file name.
var content = map[string]string{
	"CURRENT":       "MANIFEST-000004\n",
	"000007.sst":    strings.Repeat("sorted ", 100_000),
	"empty":         "",
	"sub/deep/file": "x",
}

var info = Info{
	Engine: "rocksdb", Database: "db", VBucket: "default", VBuckets: 1, Cluster: "c1", History: "h1", Index: 42,
	Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Version: "v1.2.3",
}

// engineDir writes content into a new folder.
func engineDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

// mustCreate makes a backup of content.
func mustCreate(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "daily", "b1")
	if _, err := Create(context.Background(), dir, engineDir(t), info); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCreateVerifyExtract(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "b1")
	m, err := Create(context.Background(), dir, engineDir(t), info)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"000007.sst", "CURRENT", "empty", "sub/deep/file"}
	if got := fileNames(m); !slices.Equal(got, want) || m.Info != info || m.Format != 2 {
		t.Errorf("manifest %+v", m)
	}
	if got := m.Bytes(); got != 700_000+16+0+1 {
		t.Errorf("%d bytes", got)
	}
	read, err := Verify(context.Background(), dir)
	if err != nil || !slices.Equal(read.Files, m.Files) || read.Info != info {
		t.Errorf("verify: %+v, %v", read, err)
	}
	dst := filepath.Join(t.TempDir(), "restored")
	if err := Extract(context.Background(), dir, dst); err != nil {
		t.Fatal(err)
	}
	for name, text := range content {
		if got, err := os.ReadFile(filepath.Join(dst, name)); err != nil || string(got) != text {
			t.Errorf("%s differs: %v", name, err)
		}
	}
	if left := list(t, filepath.Dir(dir)); !slices.Equal(left, []string{"b1"}) {
		t.Errorf("beside the backup: %q", left)
	}
}

func TestCreateRefusesWhatIsThere(t *testing.T) {
	dir := mustCreate(t)
	_, err := Create(context.Background(), dir, engineDir(t), info)
	if kv.KindOf(err) != kv.Precondition || err.Error() != "backup "+dir+" exists already; choose another path" {
		t.Errorf("error %v", err)
	}
	// Neither a file nor a link that leads nowhere is written over.
	for name, path := range map[string]string{"file": "file", "link": "link"} {
		path = filepath.Join(filepath.Dir(dir), path)
		if name == "file" {
			write(t, path, "mine")
		} else if err := os.Symlink("/nowhere", path); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(context.Background(), path, engineDir(t), info); kv.KindOf(err) != kv.Precondition {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// abandon leaves a workspace as a process does that ends.
func abandon(t *testing.T, parent string) string {
	t.Helper()
	w, err := NewWorkspace(parent)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.Path("data/stale"), "left by a crash")
	if err := w.lock.Close(); err != nil {
		t.Fatal(err)
	}
	return w.path
}

func TestCreateAfterCrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b1")
	abandon(t, filepath.Dir(dir))
	if _, err := Create(context.Background(), dir, engineDir(t), info); err != nil {
		t.Fatal(err)
	}
	m, err := Verify(context.Background(), dir)
	if err != nil || slices.Contains(fileNames(m), "stale") {
		t.Errorf("manifest %v, %v", fileNames(m), err)
	}
	if left := list(t, filepath.Dir(dir)); !slices.Equal(left, []string{"b1"}) {
		t.Errorf("it leaves %q", left)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	special := engineDir(t)
	if err := os.Symlink("/etc/hostname", filepath.Join(special, "link")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ctx context.Context
		src string
	}{
		"no source":      {context.Background(), filepath.Join(t.TempDir(), "nowhere")},
		"caller gone":    {ended, engineDir(t)},
		"a special file": {context.Background(), special},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if _, err := Create(c.ctx, filepath.Join(root, "b1"), c.src, info); err == nil {
				t.Error("it succeeded")
			}
			if left := list(t, root); len(left) != 0 {
				t.Errorf("it leaves %q", left)
			}
		})
	}
}

// edit changes the manifest of a backup.
func edit(t *testing.T, dir string, f func(*Manifest)) {
	t.Helper()
	path := filepath.Join(dir, manifestFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	f(&m)
	if raw, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	write(t, path, string(raw))
}

// TestDamage spoils backups in every way that can be told, and checks that
// neither Verify nor Extract lets any of them pass.
func TestDamage(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		kind  kv.Kind
		text  string
	}{
		"no manifest": {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, manifestFile)) },
			kv.NotFound, "there is no backup at DIR (no MANIFEST.json)"},
		"no folder": {func(t *testing.T, dir string) { remove(t, dir) },
			kv.NotFound, "there is no backup at DIR (no MANIFEST.json)"},
		"manifest cut short": {func(t *testing.T, dir string) { write(t, filepath.Join(dir, manifestFile), `{"format":1,`) },
			kv.Corrupt, "backup DIR: the manifest is damaged: unexpected end of JSON input"},
		"manifest that is a pipe": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, manifestFile)
			remove(t, path)
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, kv.Corrupt, "backup DIR: the manifest is not a regular file of at most 512 MiB"},
		"newer format": {func(t *testing.T, dir string) { edit(t, dir, func(m *Manifest) { m.Format = 3 }) },
			kv.Precondition, "backup DIR has format 3; this dkvsrv reads formats up to 2: use the release that wrote it, or a newer one"},
		"flipped bit": {func(t *testing.T, dir string) {
			flip(t, filepath.Join(DataDir(dir), "000007.sst"))
		}, kv.Corrupt, "backup DIR: stored data is corrupt: 000007.sst fails its checksum"},
		"cut short": {func(t *testing.T, dir string) { write(t, filepath.Join(DataDir(dir), "CURRENT"), "MANI") },
			kv.Corrupt, "backup DIR: stored data is corrupt: CURRENT has 4 bytes, not 16"},
		"longer": {func(t *testing.T, dir string) { write(t, filepath.Join(DataDir(dir), "empty"), "not") },
			kv.Corrupt, "backup DIR: stored data is corrupt: empty has 3 bytes, not 0"},
		"missing file": {func(t *testing.T, dir string) { remove(t, filepath.Join(DataDir(dir), "empty")) },
			kv.Corrupt, "backup DIR: empty is missing"},
		"no data": {func(t *testing.T, dir string) { remove(t, DataDir(dir)) },
			kv.Corrupt, "backup DIR: statat data: no such file or directory"},
		"extra file": {func(t *testing.T, dir string) { write(t, filepath.Join(DataDir(dir), "sub", "000009.sst"), "") },
			kv.Corrupt, "backup DIR: sub/000009.sst is not in the manifest"},
		"file behind a link": {func(t *testing.T, dir string) {
			path := filepath.Join(DataDir(dir), "CURRENT")
			write(t, filepath.Join(dir, "elsewhere"), content["CURRENT"])
			remove(t, path)
			if err := os.Symlink("../elsewhere", path); err != nil {
				t.Fatal(err)
			}
		}, kv.Corrupt, "backup DIR: CURRENT is not a regular file"},
		"data behind a link": {func(t *testing.T, dir string) {
			outside := filepath.Join(filepath.Dir(dir), "outside")
			if err := os.Rename(DataDir(dir), outside); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, DataDir(dir)); err != nil {
				t.Fatal(err)
			}
		}, kv.Corrupt, "path escapes from parent"},
		"name outside": {func(t *testing.T, dir string) {
			edit(t, dir, func(m *Manifest) { m.Files[0].Name = "../../x" })
		}, kv.Corrupt, `backup DIR: the manifest names a file outside it: "../../x"`},
		"absolute name": {func(t *testing.T, dir string) {
			edit(t, dir, func(m *Manifest) { m.Files[0].Name = "/etc/passwd" })
		}, kv.Corrupt, `backup DIR: the manifest names a file outside it: "/etc/passwd"`},
		"roundabout name": {func(t *testing.T, dir string) {
			edit(t, dir, func(m *Manifest) { m.Files[0].Name = "sub/../000007.sst" })
		}, kv.Corrupt, `backup DIR: the manifest names a file outside it: "sub/../000007.sst"`},
		"name twice": {func(t *testing.T, dir string) {
			edit(t, dir, func(m *Manifest) { m.Files = append(m.Files, m.Files[0]) })
		}, kv.Corrupt, "backup DIR: the manifest names 000007.sst twice"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := mustCreate(t)
			c.spoil(t, dir)
			dst := filepath.Join(t.TempDir(), "restored")
			_, verr := Verify(context.Background(), dir)
			for call, err := range map[string]error{"verify": verr, "extract": Extract(context.Background(), dir, dst)} {
				if err == nil {
					t.Fatalf("%s lets it pass", call)
				}
				if kv.KindOf(err) != c.kind {
					t.Errorf("%s: %v has kind %d, want %d", call, err, kv.KindOf(err), c.kind)
				}
				if got := strings.ReplaceAll(err.Error(), dir, "DIR"); got != c.text && !strings.HasSuffix(got, ": "+c.text) {
					t.Errorf("%s: error %q, want %q", call, got, c.text)
				}
			}
		})
	}
}

func TestExtractRefusesWhatIsThere(t *testing.T) {
	if err := Extract(context.Background(), mustCreate(t), t.TempDir()); !errors.Is(err, os.ErrExist) {
		t.Errorf("error %v", err)
	}
}

func TestEndedContext(t *testing.T) {
	dir := mustCreate(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Verify(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("verify: %v", err)
	}
	if err := Extract(ctx, dir, filepath.Join(t.TempDir(), "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("extract: %v", err)
	}
}

func fileNames(m Manifest) []string {
	var names []string
	for _, f := range m.Files {
		names = append(names, f.Name)
	}
	return names
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// write writes a file, with the folders above it.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/3] ^= 0x40
	write(t, path, string(raw))
}

// A backup is not to be changed by another one inside it.
func TestNoBackupInsideABackup(t *testing.T) {
	root := t.TempDir()
	outer := filepath.Join(root, "outer")
	if err := os.MkdirAll(outer, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outer, manifestFile), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, inner := range []string{"x", "a/b/c", "data/x"} {
		if err := Prepare(filepath.Join(outer, inner)); kv.KindOf(err) != kv.Precondition {
			t.Errorf("%s: %v", inner, err)
		}
	}
	if entries, _ := os.ReadDir(outer); len(entries) != 1 {
		t.Errorf("left %v", entries)
	}
	if err := Prepare(filepath.Join(root, "beside")); err != nil {
		t.Error(err)
	}
}

// A backup is made also beside a workspace that cannot be judged, as on a file system without
// locks, and that stays. NFS locks files that are open for writing.
func TestBackupBesideAWorkspaceThatCannotBeLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b1")
	left := abandon(t, filepath.Dir(dir))
	defer func() { lockMarker = durable.Lock }()
	none := errors.New("no locks here")
	for _, onNFS := range []bool{false, true} {
		lockMarker = func(f *os.File) error {
			flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
			if err == nil && onNFS && flags&unix.O_ACCMODE == unix.O_RDWR {
				return durable.Lock(f)
			}
			return errors.Join(err, none)
		}
		if err := Sweep(filepath.Dir(dir)); errors.Is(err, none) == onNFS {
			t.Errorf("on NFS %v: %v", onNFS, err)
		}
		_, err := os.Stat(left)
		if onNFS != errors.Is(err, os.ErrNotExist) {
			t.Errorf("on NFS %v, the workspace: %v", onNFS, err)
		}
		if _, err := Create(context.Background(), dir, engineDir(t), info); err != nil {
			t.Fatal(err)
		}
		dir += "-on-nfs"
	}
}

// A backup that was copied by another user may be whole: that it cannot be read is no damage.
func TestBackupOfAnotherUserIsNotDamaged(t *testing.T) {
	for name, closed := range map[string]string{"folder": dataFolder, "file": inData("CURRENT")} {
		t.Run(name, func(t *testing.T) {
			dir := mustCreate(t)
			root := filepath.Dir(filepath.Dir(dir))
			err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
				return errors.Join(err, os.Chmod(path, 0o755))
			})
			if err := errors.Join(err, os.Chmod(filepath.Join(dir, closed), 0)); err != nil {
				t.Fatal(err)
			}
			testkit.Unprivileged(t, root, func() {
				_, err := Verify(context.Background(), dir)
				if kv.KindOf(err) != kv.Invalid || !strings.Contains(err.Error(), "cannot be used by the user that dkvsrv runs as") {
					t.Errorf("%v: %v", kv.KindOf(err), err)
				}
			})
			if err := os.Chmod(filepath.Join(dir, closed), 0o700); err != nil {
				t.Error(err)
			}
		})
	}
}

// A workspace of another user is left to that user, and is no fault.
func TestWorkspaceOfAnotherUserStays(t *testing.T) {
	root := t.TempDir()
	left := abandon(t, root)
	if err := errors.Join(os.Chmod(root, 0o777), os.Chmod(left, 0)); err != nil {
		t.Fatal(err)
	}
	testkit.Unprivileged(t, root, func() {
		if err := Sweep(root); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(left, 0o700); err != nil {
		t.Error(err)
	}
}

// What a process that ended has left goes; what others use, what a user put there
// and what is deeper down does not.
func TestSweepRemovesAbandonedWorkspacesOnly(t *testing.T) {
	root := t.TempDir()
	gone := abandon(t, root)
	var stay []string
	for _, name := range []string{".partial-b/data", ".backup-b", ".restore-c/data", "a/" + workspacePrefix + "deep", workspacePrefix + "unmarked/data", workspacePrefix + "foreign"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o750); err != nil {
			t.Fatal(err)
		}
		stay = append(stay, filepath.Join(root, name))
	}
	write(t, filepath.Join(root, workspacePrefix+"foreign", ownerFile), "someone else's notes")
	write(t, filepath.Join(root, "a", workspacePrefix+"deep", ownerFile), ownerMarker)
	write(t, filepath.Join(root, workspacePrefix+"file"), ownerMarker)
	elsewhere := t.TempDir()
	write(t, filepath.Join(elsewhere, ownerFile), ownerMarker)
	if err := os.Symlink(elsewhere, filepath.Join(root, workspacePrefix+"link")); err != nil {
		t.Fatal(err)
	}
	used, err := NewWorkspace(root)
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	stay = append(stay, filepath.Join(root, workspacePrefix+"file"), filepath.Join(elsewhere, ownerFile), used.Path(ownerFile))
	for range 2 { // a second process's sweep
		if err := Sweep(root); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(gone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the abandoned workspace stays: %v", err)
	}
	for _, path := range stay {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("it removed %s: %v", path, err)
		}
	}
	if err := Sweep(filepath.Join(root, "none")); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
}
