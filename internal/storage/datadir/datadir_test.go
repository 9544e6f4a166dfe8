package datadir

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// holdEnv makes the test binary hold a folder until its stdin is closed.
const holdEnv = "DATADIR_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		hold(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func hold(dir string) {
	d, err := Open(dir, mine)
	if err != nil {
		println("held:", err.Error())
		os.Exit(1)
	}
	println("held")
	_, _ = os.Stdin.Read(make([]byte, 1))
	_ = d.Close()
}

// mine is the identity that the tests open folders with.
var mine = Identity{Engine: "rocksdb", Database: "orders", VBucket: "default", VBuckets: 1}

func mustOpen(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path, mine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// wantFailure checks that a folder is refused, with what the user is told.
func wantFailure(t *testing.T, path, want string) error {
	t.Helper()
	d, err := Open(path, mine)
	if err == nil {
		d.Close()
		t.Fatal("it was opened")
	}
	if got := strings.ReplaceAll(err.Error(), path, "DIR"); got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	return err
}

func TestOpenMakesTheFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "db")
	d := mustOpen(t, path)
	if d.Path() != path {
		t.Errorf("path %s", d.Path())
	}
	marker := filepath.Join(path, "dkv.json")
	if _, err := os.Stat(marker); err == nil {
		t.Error("it was claimed before an engine has opened in it")
	}
	for range 2 {
		if err := d.Claim(); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(marker)
	if err != nil || string(raw) != `{"format":1,"engine":"rocksdb","database":"orders","vbucket":"default","vbuckets":1}`+"\n" {
		t.Errorf("marker %q, %v", raw, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error("second close:", err)
	}
	mustOpen(t, path)
}

const lockedText = "db-folder DIR: folder is in use by another process; stop the other dkvsrv or choose another db-folder"

func TestSecondOpenInOneProcess(t *testing.T) {
	path := t.TempDir()
	d := mustOpen(t, path)
	if err := wantFailure(t, path, lockedText); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("%v is not ErrLocked", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path)
}

// TestSecondProcess has another process hold the folder, and die with it.
func TestSecondProcess(t *testing.T) {
	path := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil || line != "held\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	if err := wantFailure(t, path, lockedText); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("%v is not ErrLocked", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	mustOpen(t, path)
}

// LOCK looks like what a crash has left, and operators remove it.
func TestRemovedLockLetsNoSecondProcessIn(t *testing.T) {
	path := t.TempDir()
	locked := func(when string) {
		t.Helper()
		if err := os.Remove(filepath.Join(path, "LOCK")); err != nil {
			t.Fatal(err)
		}
		if err := wantFailure(t, path, lockedText); !errors.Is(err, storage.ErrLocked) {
			t.Errorf("%s: %v is not ErrLocked", when, err)
		}
	}
	d := mustOpen(t, path)
	if err := d.Claim(); err != nil {
		t.Fatal(err)
	}
	locked("claimed just now")
	if err := errors.Join(d.Become(Copy), d.Become(Database)); err != nil {
		t.Fatal(err)
	}
	locked("with another marker")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = mustOpen(t, path)
	locked("claimed before")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path)
}

func TestGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	d := mustOpen(t, path)
	if err := d.Claim(); err != nil {
		t.Fatal(err)
	}
	there := func(what string, want bool, change error) {
		t.Helper()
		if change != nil {
			t.Fatal(change)
		}
		if err := d.Gone(); (err == nil) != want || err != nil && !errors.Is(err, storage.ErrGone) {
			t.Errorf("%s: %v", what, err)
		}
	}
	there("at first", true, nil)
	there("LOCK is removed", true, os.Remove(filepath.Join(path, "LOCK")))
	there("it is moved", false, os.Rename(path, path+".away"))
	there("a file is in its place", false, os.WriteFile(path, nil, 0o600))
	there("it is back", true, errors.Join(os.Remove(path), os.Rename(path+".away", path)))
	there("it is emptied", false, os.Remove(filepath.Join(path, "dkv.json")))
}

func TestMarker(t *testing.T) {
	for name, c := range map[string]struct{ marker, want string }{
		"another engine": {`{"format":1,"engine":"badger"}`,
			"db-folder DIR: it holds a badger database, not rocksdb; set db-engine to badger or choose another folder"},
		"another database": {`{"format":1,"engine":"rocksdb","database":"users","vbucket":"default","vbuckets":1}`,
			`db-folder DIR: it holds database "users", not "orders"; set database to users or choose another folder`},
		"another vBucket": {`{"format":1,"engine":"rocksdb","database":"orders","vbucket":"west","vbuckets":1}`,
			`db-folder DIR: it holds vBucket "west", not "default"; set vbucket to west or choose another folder`},
		"another number of vBuckets": {`{"format":1,"engine":"rocksdb","database":"orders","vbucket":"default","vbuckets":8}`,
			"db-folder DIR: its database is cut into 8 vBuckets, not 1; set vbuckets to 8 or choose another folder"},
		"a slave's copy": {`{"format":1,"engine":"rocksdb","database":"orders","vbucket":"default","vbuckets":1,"holds":"copy"}`,
			"db-folder DIR: it holds a slave's copy (role slave), not a database of its own (role none or master); set role as it was or choose another folder"},
		"newer format": {`{"format":2,"engine":"rocksdb"}`,
			"db-folder DIR: stored data was written by a newer release: it has format 2, and this release reads up to 1; use the release that wrote it, or a newer one"},
		"newer format that knows more": {`{"format":7,"engine":"rocksdb","pages":[1,2]}`,
			"db-folder DIR: stored data was written by a newer release: it has format 7, and this release reads up to 1; use the release that wrote it, or a newer one"},
		"cut short": {`{"format":1,"eng`,
			"db-folder DIR: dkv.json is damaged; restore a backup into an empty folder"},
		"empty":     {"", "db-folder DIR: dkv.json is damaged; restore a backup into an empty folder"},
		"no format": {`{"engine":"rocksdb"}`, "db-folder DIR: dkv.json is damaged; restore a backup into an empty folder"},
		"no engine": {`{"format":1}`, "db-folder DIR: dkv.json is damaged; restore a backup into an empty folder"},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			write(t, filepath.Join(path, "dkv.json"), c.marker)
			wantFailure(t, path, c.want)
			// It was not locked for good, nor changed.
			wantFailure(t, path, c.want)
			if raw, _ := os.ReadFile(filepath.Join(path, "dkv.json")); string(raw) != c.marker {
				t.Errorf("the marker is now %q", raw)
			}
		})
	}
}

func TestForeignDatabase(t *testing.T) {
	for _, name := range []string{"CURRENT", "MANIFEST", "KEYREGISTRY"} {
		path := t.TempDir()
		write(t, filepath.Join(path, name), "x")
		wantFailure(t, path, "db-folder DIR: it holds a database that dkvsrv did not make ("+name+"); choose another folder")
		if _, err := os.Stat(filepath.Join(path, "dkv.json")); err == nil {
			t.Error("it was claimed all the same")
		}
	}
}

// TestFolderOfTheEarlierSystem: its database is in the folder data. A node that started
// empty beside it would look as if all keys were lost.
func TestFolderOfTheEarlierSystem(t *testing.T) {
	for _, name := range []string{"CURRENT", "MANIFEST"} {
		path := t.TempDir()
		if err := os.Mkdir(filepath.Join(path, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(path, "data", name), "x")
		wantFailure(t, path, "db-folder DIR: it holds a database that dkvsrv did not make (data/"+name+"); choose another folder")
	}
}

// TestLeftoverOfMarker opens a folder in which a crash left half a marker.
func TestLeftoverOfMarker(t *testing.T) {
	path := t.TempDir()
	write(t, filepath.Join(path, "dkv.json.new"), `{"form`)
	if err := mustOpen(t, path).Claim(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "dkv.json.new")); err == nil {
		t.Error("the leftover is still there")
	}
}

func TestUnusablePaths(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "file")
	write(t, file, "x")
	for _, path := range []string{file, filepath.Join(file, "below")} {
		_, err := Open(path, mine)
		if err == nil || !strings.HasPrefix(err.Error(), "create db-folder: ") ||
			!strings.HasSuffix(err.Error(), "; choose a folder that this user may write to") {
			t.Errorf("%s: error %v", path, err)
		}
	}
	// What must be files are folders, which cannot be written as files.
	locked := filepath.Join(root, "locked")
	mkdir(t, filepath.Join(locked, "LOCK"))
	if _, err := Open(locked, mine); err == nil || !strings.HasSuffix(err.Error(), "; check its owner and permissions") {
		t.Errorf("LOCK is a folder: error %v", err)
	}
	marked := filepath.Join(root, "marked")
	mkdir(t, filepath.Join(marked, "dkv.json"))
	if _, err := Open(marked, mine); err == nil || !strings.HasSuffix(err.Error(), "; check its owner and permissions") {
		t.Errorf("dkv.json is a folder: error %v", err)
	}
}

// TestDiskThatTakesNothing: an owner that may write to the folder is not told to look at that.
func TestDiskThatTakesNothing(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT} {
		err := &fs.PathError{Op: "open", Path: "/x/LOCK", Err: errno}
		if got := advised(err, "check its owner and permissions"); got != error(err) {
			t.Errorf("%v", got)
		}
	}
	err := &fs.PathError{Op: "open", Path: "/x/LOCK", Err: syscall.EACCES}
	if got := advised(err, "check its owner"); got.Error() != "open /x/LOCK: permission denied; check its owner" || !errors.Is(got, fs.ErrPermission) {
		t.Errorf("%v", got)
	}
}

func TestUnwritableFolder(t *testing.T) {
	root := t.TempDir()
	if err := os.Chmod(root, 0o555); err != nil {
		t.Fatal(err)
	}
	testkit.Unprivileged(t, root, func() {
		if _, err := Open(filepath.Join(root, "db"), mine); err == nil || !errors.Is(err, os.ErrPermission) {
			t.Errorf("error %v", err)
		}
		wantFailure(t, root, "db-folder DIR: open DIR/LOCK: permission denied; check its owner and permissions")
	})
}

func TestMkdirAll(t *testing.T) {
	root := t.TempDir()
	for _, path := range []string{filepath.Join(root, "a", "b", "c"), filepath.Join(root, "a", "b"), root} {
		if err := durable.MkdirAll(path); err != nil {
			t.Error(err)
		}
		if fi, err := os.Stat(path); err != nil || !fi.IsDir() {
			t.Errorf("%s: %v", path, err)
		}
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink(filepath.Join(root, "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "file"), "x")
	for _, path := range []string{filepath.Join(root, "file"), filepath.Join(root, "file", "x"), link} {
		if err := durable.MkdirAll(path); err == nil {
			t.Errorf("%s was made", path)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o750); err != nil {
		t.Fatal(err)
	}
}

// A folder whose data has gone must not look like a new one.
func TestVBucketOfAClaimedFolderIsMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	id := Identity{Engine: "rocksdb", VBuckets: 1}
	d, err := Open(path, id)
	if err != nil {
		t.Fatal(err)
	}
	if d.Claimed() {
		t.Error("a new folder is claimed")
	}
	if _, err := d.VBucket("default"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Claim(), d.Close(), os.RemoveAll(filepath.Join(path, "vbucket-default"))); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(path, id); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !d.Claimed() {
		t.Error("a folder that was used is not claimed")
	}
	if _, err := d.VBucket("default"); err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("the vBucket of a folder that has lost it: %v", err)
	}
}
