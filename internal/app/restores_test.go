package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestRestoresAreOfTheSameVBuckets: a backup of some vBuckets of a database cannot be
// restored to a node, or to a vBucket, that holds other keys.
func TestRestoresAreOfTheSameVBuckets(t *testing.T) {
	dir := t.TempDir()
	four := start(t, "--role", "master", "--disable-discovery-client", "--nexus-node-url", "http://"+testkit.Address(t), "--vbuckets", "4", "--backup-dir", dir)
	one := start(t, "--backup-dir", dir)
	// On a busy machine an epoch may take longer to begin than a node has a call wait for that.
	done := func(what string, call func() error) {
		t.Helper()
		var err error
		if !testkit.Soon(func() bool { err = call(); return status.Code(err) != codes.Unavailable }) || err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	const keys = 40
	put := func(p *process, value string) {
		t.Helper()
		kv := serverpb.NewDKVClient(connect(t, p.grpc()))
		for i := range keys {
			done("put", func() error {
				_, err := kv.Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: fmt.Append(nil, i), Value: []byte(value)})
				return err
			})
		}
	}
	wantAll := func(p *process, value string) {
		t.Helper()
		kv := serverpb.NewDKVClient(connect(t, p.grpc()))
		for i := range keys {
			var got *serverpb.GetResponse
			done("get", func() (err error) {
				got, err = kv.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: fmt.Append(nil, i)})
				return err
			})
			if string(got.GetValue()) != value {
				t.Fatalf("key %d: %v; want %s", i, got, value)
			}
		}
	}
	restore := func(p *process, path string) error {
		_, err := serverpb.NewDKVBackupRestoreClient(connect(t, p.grpc())).Restore(testkit.Within(t, testkit.Patience), &serverpb.RestoreRequest{RestorePath: path})
		return err
	}
	backup := func(p *process, path string) {
		t.Helper()
		done("backup", func() error {
			_, err := serverpb.NewDKVBackupRestoreClient(connect(t, p.grpc())).Backup(testkit.Within(t, testkit.Patience), &serverpb.BackupRequest{BackupPath: path})
			return err
		})
	}
	refused := func(p *process, path, want string) {
		t.Helper()
		if err := restore(p, path); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: %v; want %q", path, err, want)
		}
	}
	put(four, "old")
	put(one, "own")
	backup(four, "all")
	backup(one, "whole")
	put(four, "new")

	refused(one, "all/3", "is vBucket 3 of 4 of database default, and the database here has 1")
	refused(one, "all", "holds backups of 4 vBuckets")
	wantAll(one, "own")
	refused(four, "all/3", "is the backup of one vBucket, and the database here has 4")
	refused(four, "whole", "is the backup of one vBucket, and the database here has 4")
	swap := func(a, b string) {
		t.Helper()
		for _, move := range [][2]string{{a, "aside"}, {b, a}, {"aside", b}} {
			if err := os.Rename(filepath.Join(dir, "all", move[0]), filepath.Join(dir, "all", move[1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	swap("2", "3")
	refused(four, "all", "is vBucket 3 of 4 and cannot be vBucket 2, which has other keys")
	wantAll(four, "new")
	swap("2", "3")
	done("restore", func() error { return restore(four, "all") })
	wantAll(four, "old")
}
