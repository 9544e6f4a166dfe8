package app

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// plaintext is a key and a value that no file of an encrypted node may contain.
const plaintext = "known-plaintext"

// keyFile writes a master key, of 32 bytes that are all n, in hexadecimal.
func keyFile(t *testing.T, n string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key"+n)
	if err := os.WriteFile(path, []byte(strings.Repeat("0"+n, 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantNoPlaintext fails if a file below a folder contains plaintext.
func wantNoPlaintext(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed by the node meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		files++
		if bytes.Contains(data, []byte(plaintext)) {
			t.Errorf("%s contains plaintext", path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files in %s: %v", files, dir, err)
	}
}

// putPlaintext writes values that take different ways through the engine.
func putPlaintext(t *testing.T, p *process) {
	t.Helper()
	kv := serverpb.NewDKVClient(connect(t, p.grpc()))
	for _, times := range []int{1, 100_000} {
		req := &serverpb.PutRequest{Key: []byte(plaintext), Value: []byte(strings.Repeat(plaintext, times))}
		if _, err := kv.Put(testkit.Within(t, testkit.Patience), req); err != nil {
			t.Fatal(err)
		}
	}
}

// hasPlaintext reports whether a node has what putPlaintext wrote.
func hasPlaintext(t *testing.T, p *process) bool {
	t.Helper()
	kv := serverpb.NewDKVClient(connect(t, p.grpc()))
	got, err := kv.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte(plaintext)})
	return err == nil && len(got.GetValue()) == 100_000*len(plaintext)
}

func takeBackup(t *testing.T, p *process, path string) {
	t.Helper()
	service := serverpb.NewDKVBackupRestoreClient(connect(t, p.grpc()))
	if _, err := service.Backup(testkit.Within(t, testkit.Patience), &serverpb.BackupRequest{BackupPath: path}); err != nil {
		t.Fatal(err)
	}
}

func restoreBackup(t *testing.T, p *process, path string) error {
	t.Helper()
	service := serverpb.NewDKVBackupRestoreClient(connect(t, p.grpc()))
	_, err := service.Restore(testkit.Within(t, testkit.Patience), &serverpb.RestoreRequest{RestorePath: path})
	return err
}

// wantRefusal checks the error of a restore that cannot open its backup.
func wantRefusal(t *testing.T, err error, says string) {
	t.Helper()
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want FailedPrecondition that says %q", err, says)
	}
}

// TestEncryptedNodeHasNothingInTheClear: neither in its folder nor in its backups; nor has
// a slave that received all as a snapshot.
func TestEncryptedNodeHasNothingInTheClear(t *testing.T) {
	key, backups := keyFile(t, "1"), t.TempDir()
	node := start(t, "--db-engine", "badger", "--encryption-key-file", key, "--backup-dir", backups)
	putPlaintext(t, node)
	takeBackup(t, node, "b")
	wantNoPlaintext(t, backups)
	wantNoPlaintext(t, node.folder) // the logs; below, the tables
	node.stop()
	wantNoPlaintext(t, node.folder)
	if manifest, err := os.ReadFile(filepath.Join(backups, "b", "MANIFEST.json")); !bytes.Contains(manifest, []byte(`"encrypted": true`)) {
		t.Errorf("the manifest does not say that the backup is encrypted: %s, %v", manifest, err)
	}

	master := start(t, "--role", "master", "--disable-discovery-client", "--nexus-node-url", "http://"+testkit.Address(t))
	putPlaintext(t, master)
	slave := start(t, "--role", "slave", "--disable-discovery-client", "--repl-master-addr", master.grpc(), "--repl-poll-interval", "50ms",
		"--db-engine", "badger", "--encryption-key-file", key)
	testkit.Eventually(t, "the slave has the master's data", func() bool { return hasPlaintext(t, slave) })
	wantNoPlaintext(t, slave.folder)
	slave.stop()
	wantNoPlaintext(t, slave.folder)
}

// TestDisklessBackupIsEncrypted: what a diskless node writes to the disk is encrypted, too.
func TestDisklessBackupIsEncrypted(t *testing.T) {
	backups := t.TempDir()
	node := start(t, "--db-engine", "badger", "--diskless", "--encryption-key-file", keyFile(t, "1"), "--backup-dir", backups)
	putPlaintext(t, node)
	takeBackup(t, node, "b")
	wantNoPlaintext(t, backups)
	if err := restoreBackup(t, node, "b"); err != nil || !hasPlaintext(t, node) {
		t.Errorf("the backup cannot be restored: %v", err)
	}
}

// TestMasterKeyRotation: a node starts with a new key and the previous one, then with the
// new one alone; with a wrong one it does not start. Earlier backups need the earlier key.
func TestMasterKeyRotation(t *testing.T) {
	one, two, backups := keyFile(t, "1"), keyFile(t, "2"), t.TempDir()
	node := start(t, "--db-engine", "badger", "--backup-dir", backups)
	node.grpc() // a start that is told to stop may still hold its address for a while
	node.stop()
	if err := os.RemoveAll(node.folder); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		node.begin(args...)
		node.grpc()
	}
	refuse := func(says string, args ...string) {
		t.Helper()
		node.begin(args...)
		if code := <-node.code; code != exitError || !strings.Contains(node.log.String(), says) {
			t.Errorf("exit code %d, want %d and %q:\n%s", code, exitError, says, node.log)
		}
		node.code <- exitError
	}
	run("--encryption-key-file", one)
	putPlaintext(t, node)
	takeBackup(t, node, "b")
	node.stop()

	refuse("the data is encrypted; set encryption-key-file")
	refuse("with another key than that of encryption-key-file", "--encryption-key-file", two)
	run("--encryption-key-file", two, "--encryption-previous-key-file", one)
	if err := restoreBackup(t, node, "b"); err != nil || !hasPlaintext(t, node) {
		t.Errorf("a backup from before the rotation cannot be restored: %v", err)
	}
	node.stop()
	refuse("with another key than that of encryption-key-file", "--encryption-key-file", one)
	run("--encryption-key-file", two)
	wantRefusal(t, restoreBackup(t, node, "b"), "with another key than that of encryption-key-file")
	if !hasPlaintext(t, node) {
		t.Error("the node has lost its data")
	}
	node.stop()
	wantNoPlaintext(t, node.folder)
}

// TestBackupsBetweenEncryptedAndClear: a backup in the clear is how the data of a node comes
// to be encrypted. An encrypted one is not restored without its key.
func TestBackupsBetweenEncryptedAndClear(t *testing.T) {
	backups := t.TempDir()
	clear := start(t, "--db-engine", "badger", "--backup-dir", backups)
	sealed := start(t, "--db-engine", "badger", "--backup-dir", backups, "--encryption-key-file", keyFile(t, "1"))
	putPlaintext(t, clear)
	takeBackup(t, clear, "clear")
	if err := restoreBackup(t, sealed, "clear"); err != nil || !hasPlaintext(t, sealed) {
		t.Fatalf("a backup in the clear cannot be restored: %v", err)
	}
	takeBackup(t, sealed, "sealed")
	sealed.stop()
	wantNoPlaintext(t, sealed.folder)
	wantNoPlaintext(t, filepath.Join(backups, "sealed"))
	wantRefusal(t, restoreBackup(t, clear, "sealed"), "the data is encrypted; set encryption-key-file")
	if !hasPlaintext(t, clear) {
		t.Error("the node has lost its data")
	}
}

// TestEncryptionKeysThatCannotBeUsed are found before anything is opened, also by
// --check-config.
func TestEncryptionKeysThatCannotBeUsed(t *testing.T) {
	open := keyFile(t, "1")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"rocksdb":        {[]string{"--encryption-key-file", keyFile(t, "1")}, "on an encrypted file system"},
		"open to others": {[]string{"--db-engine", "badger", "--encryption-key-file", open}, "chmod 0600"},
		"missing":        {[]string{"--db-engine", "badger", "--encryption-key-file", filepath.Join(t.TempDir(), "none")}, "no such file"},
		"previous alone": {[]string{"--db-engine", "badger", "--encryption-previous-key-file", keyFile(t, "1")}, "there is no key that replaces it"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			args := append([]string{"--check-config", "--db-folder", filepath.Join(t.TempDir(), "db")}, c.args...)
			if code := Main(t.Context(), Process{Args: args, Stdout: &out, Stderr: &out}); code != exitError || !strings.Contains(out.String(), c.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, exitError, c.says, &out)
			}
		})
	}
}
