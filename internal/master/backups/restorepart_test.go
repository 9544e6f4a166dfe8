package backups

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// restores are two vBuckets of one node with a backup, b, that holds "old" for the key k of both.
type restores struct {
	t    *testing.T
	all  []route.VBucket
	root string
}

func newRestores(t *testing.T) *restores {
	t.Helper()
	const vBuckets = 2
	r := &restores{t: t, root: filepath.Join(t.TempDir(), "backups")}
	for i := range vBuckets {
		name := fmt.Sprint(i)
		l, err := local.Open(local.Options{Options: state.Options{
			VBucket: name, VBuckets: vBuckets,
			Open:     func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) },
			OpenKind: func(_, dir string) (storage.Engine, error) { return memory.Open(memory.Options{Dir: dir}) },
			Log:      slog.New(slog.DiscardHandler),
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		testkit.Run(t, l.Run)
		r.all = append(r.all, route.VBucket{Name: name, Replica: l})
	}
	r.put("old")
	if _, err := r.service().Backup(context.Background(), &serverpb.BackupRequest{BackupPath: "b"}); err != nil {
		t.Fatal(err)
	}
	r.put("new")
	return r
}

func (r *restores) service() *Service { return New(route.NewKeyspace(r.all...), r.root, nil) }

func (r *restores) put(value string) {
	r.t.Helper()
	for _, v := range r.all {
		if _, err := v.Propose(r.t.Context(), &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: []byte("k"), Value: []byte(value)}}}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// want checks what the vBuckets hold.
func (r *restores) want(values ...string) {
	r.t.Helper()
	for i, want := range values {
		if p, _, _, err := r.all[i].Get(r.t.Context(), []byte("k"), kv.ReadOptions{}); err != nil || string(p.Value) != want {
			r.t.Errorf("vBucket %d holds %q, %v", i, p.Value, err)
		}
	}
}

func (r *restores) restore() error {
	_, err := r.service().Restore(context.Background(), &serverpb.RestoreRequest{RestorePath: "b"})
	return err
}

// A damaged backup of one vBucket keeps the others from being replaced, also at a node that keeps its
// logs alone, as a promoted slave of masters with several vBuckets does.
func TestDamagedPartIsNoticedFirst(t *testing.T) {
	r := newRestores(t)
	damaged := filepath.Join(r.root, "b", r.all[1].Name, "data", "checkpoint.mem")
	raw, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(damaged, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	err = r.restore()
	r.want("new", "new")
	if kv.KindOf(err) != kv.Corrupt || kv.OutcomeOf(err) != kv.NotApplied || !strings.Contains(err.Error(), "vBucket 1") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("kind %d (%v): %v", kv.KindOf(err), kv.OutcomeOf(err), err)
	}
}

// failing is a replica that cannot restore anything.
type failing struct{ replica.Replica }

func (failing) Restore(context.Context, string) error {
	return kv.Errorf(kv.Exhausted, "the disk is full")
}

// A restore that has replaced some vBuckets and fails for the next has had its effect:
// what was written to the first since would be lost if it was sent again for harmless.
func TestRestoreOfAPartIsNotWithoutEffect(t *testing.T) {
	r := newRestores(t)
	r.all[1].Replica = failing{r.all[1].Replica}
	err := r.restore()
	r.want("old", "new")
	if kv.KindOf(err) != kv.Exhausted || kv.OutcomeOf(err) != kv.Unknown || !strings.Contains(err.Error(), "1 of 2 vBuckets") {
		t.Errorf("after a restore of one vBucket of two the error has kind %d (%v): %v", kv.KindOf(err), kv.OutcomeOf(err), err)
	}
}

// unconfirmed is a replica whose restores are applied, and not confirmed by slaves.
type unconfirmed struct {
	replica.Replica
	restores int
}

func (u *unconfirmed) Restore(ctx context.Context, dir string) error {
	u.restores++
	if err := u.Replica.Restore(ctx, dir); err != nil {
		return err
	}
	return kv.UnknownOutcome(kv.NotConfirmed, errors.New("applied here, not confirmed: level sync needs the slaves s:1"))
}

// TestUnconfirmedRestoreGoesOn: a vBucket that slaves have not confirmed is not restored again, and
// keeps no other from being restored.
func TestUnconfirmedRestoreGoesOn(t *testing.T) {
	r := newRestores(t)
	u := &unconfirmed{Replica: r.all[0].Replica}
	r.all[0].Replica = u
	err := r.restore()
	r.want("old", "old")
	if kv.KindOf(err) != kv.NotConfirmed || kv.OutcomeOf(err) != kv.Unknown || u.restores != 1 {
		t.Errorf("%d restores of the first vBucket, the error has kind %d (%v)", u.restores, kv.KindOf(err), kv.OutcomeOf(err))
	}
	if err == nil || !strings.Contains(err.Error(), "slaves have not confirmed 1 of them") || !strings.Contains(err.Error(), "vBucket 0: applied here, not confirmed") {
		t.Errorf("the error is %v", err)
	}
}

// passing is a replica that calls a function before backups and restores.
type passing struct {
	replica.Replica
	before func()
}

func (p *passing) Backup(ctx context.Context, dir string) error {
	p.before()
	return p.Replica.Backup(ctx, dir)
}

func (p *passing) Restore(ctx context.Context, dir string) error {
	p.before()
	return p.Replica.Restore(ctx, dir)
}

// TestBackupNoticesARestore: a backup of some vBuckets from before a restore, and of others from
// after it, is none of the database.
func TestBackupNoticesARestore(t *testing.T) {
	r := newRestores(t)
	inner, failed := r.all[1].Replica, error(nil)
	r.all[1].Replica = &passing{Replica: inner, before: func() {
		r.all[1].Replica = inner
		failed = r.restore() // at another member: the service is another one
	}}
	backup := func() error {
		_, err := r.service().Backup(context.Background(), &serverpb.BackupRequest{BackupPath: "half"})
		return err
	}
	err := backup()
	if failed != nil {
		t.Fatal(failed)
	}
	r.want("old", "old")
	if kv.KindOf(err) != kv.Unavailable || !strings.Contains(err.Error(), "try again when it is done (not applied)") {
		t.Errorf("the backup ends with %v", err)
	}
	if _, err := os.Lstat(filepath.Join(r.root, "half")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of the backup there is something: %v", err)
	}
	inner = r.all[0].Replica
	for _, c := range []struct {
		status  replica.Status
		refused bool
	}{
		{replica.Status{State: replica.Serving, Owner: replica.Owner{ID: 2}}, true},
		{replica.Status{State: replica.Serving}, false},                                         // the majority is lost
		{replica.Status{State: replica.Failed, Owner: replica.Owner{Self: true, ID: 1}}, false}, // a promotion has replaced the masters
	} {
		c.status.Restoring, c.status.Identity = true, inner.Status().Identity
		r.all[0].Replica = &aged{Replica: inner, status: c.status}
		if err := backup(); errors.Is(err, replica.ErrRestoring) != c.refused || err != nil != c.refused {
			t.Errorf("a backup during a restore, %v: %v", c.status.Owner, err)
		}
		if err := os.RemoveAll(filepath.Join(r.root, "half")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackupBetweenTheVBucketsOfARestore: while another member goes from one vBucket to the next,
// nothing changes in any of them, and a backup that has some from before says so.
func TestBackupBetweenTheVBucketsOfARestore(t *testing.T) {
	r := newRestores(t)
	backup := func(name string) string {
		t.Helper()
		st, err := r.service().Backup(context.Background(), &serverpb.BackupRequest{BackupPath: name})
		if err != nil {
			t.Error(err)
		}
		return st.GetMessage()
	}
	before, between := backup("before"), ""
	inner := r.all[1].Replica
	r.all[1].Replica = &passing{Replica: inner, before: func() {
		r.all[1].Replica = inner
		between = backup("between") // at another member: the service is another one
	}}
	if err := r.restore(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(between, "from before a restore and others from after it") {
		t.Errorf("the backup in between says %q", between)
	}
	if after := backup("after"); before != "" || after != "" {
		t.Errorf("the backup before says %q, the one after %q", before, after)
	}
}

// TestRestoresAtTwoMembers: two restores at once leave vBuckets of either, and the one that ends last
// says so.
func TestRestoresAtTwoMembers(t *testing.T) {
	r := newRestores(t)
	inner, other := r.all[1].Replica, error(nil)
	r.all[1].Replica = &passing{Replica: inner, before: func() {
		r.all[1].Replica = inner
		other = r.restore()
	}}
	err := r.restore()
	if other != nil {
		t.Errorf("the restore that was overtaken by none: %v", other)
	}
	if err == nil || kv.OutcomeOf(err) != kv.Unknown || !strings.Contains(err.Error(), "vBucket 0: another restore has replaced it") {
		t.Errorf("the other one: %v", err)
	}
}

// A restore that is given up while it checks the backup has changed nothing, and says so.
func TestRestoreIsGivenUpWhileItChecks(t *testing.T) {
	r := newRestores(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.service().Restore(ctx, &serverpb.RestoreRequest{RestorePath: "b"})
	if kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied {
		t.Errorf("kind %d (%v): %v", kv.KindOf(err), kv.OutcomeOf(err), err)
	}
	r.want("new", "new")
}

// impatient is the context of a caller who is gone as soon as it would be waited for.
type impatient struct {
	context.Context
	gone bool
}

func (i *impatient) Done() <-chan struct{} {
	i.gone = true
	done := make(chan struct{})
	close(done)
	return done
}

func (i *impatient) Err() error {
	if i.gone {
		return context.Canceled
	}
	return i.Context.Err()
}

// TestRestoresDoNotPassEachOther: a backup or a restore does not begin while a restore goes from one
// vBucket to the next.
func TestRestoresDoNotPassEachOther(t *testing.T) {
	r := newRestores(t)
	reached, release, calls := make(chan struct{}), make(chan struct{}), 0
	for i := range r.all {
		r.all[i].Replica = &passing{Replica: r.all[i].Replica, before: func() {
			if calls++; calls == 1 {
				close(reached)
				<-release
			}
		}}
	}
	s := r.service()
	restore := func(ctx context.Context) error {
		_, err := s.Restore(ctx, &serverpb.RestoreRequest{RestorePath: "b"})
		return err
	}
	first := make(chan error, 1)
	go func() { first <- restore(context.Background()) }()
	<-reached
	second := restore(&impatient{Context: t.Context()})
	_, third := s.Backup(&impatient{Context: t.Context()}, &serverpb.BackupRequest{BackupPath: "other"})
	for _, err := range []error{second, third} {
		if err == nil || !strings.Contains(err.Error(), "another backup or restore is under way") {
			t.Errorf("during a restore: %v", err)
		}
	}
	if calls != 1 {
		t.Errorf("%d calls have reached the vBuckets while the first restore was held up", calls)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	r.want("old", "old")
}
