package app

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// wantPrivate fails if others than the owner may do anything with what is below a folder.
func wantPrivate(t *testing.T, dir string) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed by the node meanwhile
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		seen++
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has the permissions %04o", path, mode)
		}
		return nil
	})
	if err != nil || seen < 2 {
		t.Errorf("%d files in %s: %v", seen, dir, err)
	}
}

// TestFilesOfEveryRoleArePrivate: whatever umask a node was started with.
func TestFilesOfEveryRoleArePrivate(t *testing.T) {
	usual := unix.Umask(0)
	t.Cleanup(func() { unix.Umask(usual) })
	root := t.TempDir()
	backups, audit := filepath.Join(root, "backups"), filepath.Join(root, "audit")
	key := keyFile(t, "1")
	node := func(args ...string) *process {
		t.Helper()
		p := start(t, args...)
		p.grpc()
		return p
	}
	check := func(p *process) {
		t.Helper()
		wantPrivate(t, p.folder)
		p.stop()
		wantPrivate(t, p.folder)
	}
	standalone := node("--backup-dir", backups, "--audit-log", audit)
	putPlaintext(t, standalone)
	takeBackup(t, standalone, "b")
	if err := restoreBackup(t, standalone, "b"); err != nil {
		t.Fatal(err)
	}
	check(standalone)
	wantPrivate(t, backups)
	if info, err := os.Stat(audit); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the audit log: %v, %v", info, err)
	}
	check(node("--db-engine", "badger"))
	check(node("--db-engine", "badger", "--encryption-key-file", key))
	check(node("--role", "discovery"))
	master := node("--role", "master", "--disable-discovery-client", "--nexus-node-url", "http://"+testkit.Address(t),
		"--nexus-log-dir", filepath.Join(root, "log"))
	putPlaintext(t, master)
	slave := node("--role", "slave", "--disable-discovery-client", "--repl-master-addr", master.grpc())
	testkit.Eventually(t, "the slave has received a snapshot", func() bool { return hasPlaintext(t, slave) })
	check(slave)
	check(master)
	wantPrivate(t, filepath.Join(root, "log"))
}

// TestFoldersOfEarlierReleasesAreMadePrivate: one look at the data folder of an earlier
// release is enough, since no one comes past it to what is in it.
func TestFoldersOfEarlierReleasesAreMadePrivate(t *testing.T) {
	p := start(t)
	p.grpc()
	p.stop()
	if err := os.Chmod(p.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	p.begin()
	if _, err := serverpb.NewDKVClient(connect(t, p.grpc())).Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(p.folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data folder: %v, %v; want 0700", info, err)
	}
}

// TestSharedFoldersStayShared: a folder that others use, such as /tmp, is not taken away from them
// since a node was given it.
func TestSharedFoldersStayShared(t *testing.T) {
	for _, mode := range []os.FileMode{0o777 | os.ModeSticky, 0o755} {
		p := unstarted(t)
		if err := errors.Join(os.MkdirAll(filepath.Join(p.folder, "of others"), 0o755), os.Chmod(p.folder, mode)); err != nil {
			t.Fatal(err)
		}
		p.begin()
		p.grpc()
		if info, err := os.Stat(p.folder); err != nil || info.Mode() != os.ModeDir|mode {
			t.Errorf("%v, %v; want %v", info.Mode(), err, mode)
		}
		p.stop()
	}
}

// TestCoreDumpsArePrevented: they would hold keys and data.
func TestCoreDumpsArePrevented(t *testing.T) {
	t.Setenv("GOTRACEBACK", "")
	if err := keepPrivate(); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 {
		t.Errorf("a core dump may have %d bytes, %v", limit.Cur, err)
	}
}
