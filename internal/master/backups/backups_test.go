package backups

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestBackupAndRestore(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	for _, path := range []string{"b1", "daily/b1", filepath.Join(r.Root, "b2")} {
		r.MustPut("a", "1")
		r.MustBackup(path)
		r.MustPut("a", "2")
		r.MustPut("b", "2")
		r.MustRestore(path)
		r.WantValue("a", "1")
		r.WantAbsent("b")
	}
	_, err := r.Backups.Backup(t.Context(), &serverpb.BackupRequest{BackupPath: "b1"})
	mastertest.WantStatus(t, err, codes.FailedPrecondition, "backup "+filepath.Join(r.Root, "b1")+" exists already; choose another path (not applied)")
}

// TestBackupsAreConfined tries to reach what is not in backup-dir.
func TestBackupsAreConfined(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	r.MustBackup("b1")
	outside := filepath.Join(filepath.Dir(r.Root), "outside")
	if err := os.Rename(filepath.Join(r.Root, "b1"), outside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(r.Root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", ".", "..", "../outside", outside, "/", "link", "link/x", r.Root} {
		want := `path "` + path + `" is not inside backup-dir (` + r.Root + `); give a path relative to it (not applied)`
		_, err := r.Backups.Backup(t.Context(), &serverpb.BackupRequest{BackupPath: path})
		mastertest.WantStatus(t, err, codes.InvalidArgument, want)
		_, err = r.Backups.Restore(t.Context(), &serverpb.RestoreRequest{RestorePath: path})
		mastertest.WantStatus(t, err, codes.InvalidArgument, want)
	}
	r.WantValue("a", "1")
}

func TestFailedRestore(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	r.MustBackup("b1")
	r.MustPut("a", "2")
	_, err := r.Backups.Restore(t.Context(), &serverpb.RestoreRequest{RestorePath: "b2"})
	mastertest.WantStatus(t, err, codes.NotFound,
		"restore: there is no backup at "+filepath.Join(r.Root, "b2")+" (no MANIFEST.json); nothing was changed (not applied)")
	file := filepath.Join(r.Root, "b1", "data", "checkpoint.mem")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = r.Backups.Restore(t.Context(), &serverpb.RestoreRequest{RestorePath: "b1"})
	mastertest.WantStatus(t, err, codes.DataLoss, "restore: backup "+filepath.Join(r.Root, "b1")+
		": stored data is corrupt: checkpoint.mem fails its checksum; nothing was changed (not applied)")
	r.WantValue("a", "2")
	r.MustPut("a", "3")
}

// aged is a replica that says how it is.
type aged struct {
	replica.Replica
	status replica.Status
}

func (a *aged) Status() replica.Status               { return a.status }
func (a *aged) Backup(context.Context, string) error { return nil }

// TestBackupSaysHowOldTheStateIs: a nightly backup of a node that was removed, or that has heard of
// no other for days, must not look like one of the database.
func TestBackupSaysHowOldTheStateIs(t *testing.T) {
	for _, c := range []struct {
		status  replica.Status
		message string
		made    bool
	}{
		{replica.Status{State: replica.Serving, Age: 2 * time.Second}, "", true},
		{replica.Status{State: replica.Failed, Age: 2 * time.Hour}, "last known to be the newest 2h0m0s ago", true},
		{replica.Status{State: replica.Serving, Age: replica.NeverFresh}, "not known to be the newest since this node was started", true},
		{replica.Status{State: replica.Removed}, "this node was removed from the cluster; ask another one (not applied)", false},
		{replica.Status{State: replica.Bootstrapping, Unreadable: errors.New("no snapshot yet")}, "there is nothing to back up yet: no snapshot yet (not applied)", false},
	} {
		b := New(route.NewKeyspace(route.VBucket{Name: "default", Replica: &aged{status: c.status}}), t.TempDir(), nil)
		st, err := b.Backup(t.Context(), &serverpb.BackupRequest{BackupPath: "b"})
		said := st.GetMessage()
		if err != nil {
			said = err.Error()
		}
		if c.made != (err == nil) || !strings.Contains(said, c.message) || c.message == "" && said != "" {
			t.Errorf("%v: %q, %v", c.status.State, said, err)
		}
	}
}

// TestBackupOfAReplacedMaster: nightly backups of a master that a promotion has replaced are all of
// the state of that day.
func TestBackupOfAReplacedMaster(t *testing.T) {
	l, err := local.Open(local.Options{Options: replicatest.NewRig(t, replicatest.OnDisk).Opts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	l.Retire(errors.New("replaced by node-2"))
	testkit.Run(t, l.Run)
	b := New(route.NewKeyspace(route.VBucket{Name: "default", Replica: l}), t.TempDir(), nil)
	st, err := b.Backup(t.Context(), &serverpb.BackupRequest{BackupPath: "b"})
	if err != nil || !strings.Contains(st.GetMessage(), "not known to be the newest") {
		t.Errorf("%q, %v", st.GetMessage(), err)
	}
}
