package backups

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/task"
)

// Service serves backups and restores within one folder.
type Service struct {
	serverpb.UnimplementedDKVBackupRestoreServer
	keyspace *route.Keyspace
	root     string
	lead     func(ctx context.Context, vBucket string) error
	tasks    *task.List
	database string
	// turn holds a token while several vBuckets are backed up or restored, one after the other.
	turn chan struct{}
}

// New makes the service; root is the absolute path of backup-dir. lead makes this node own
// a vBucket's log, which a restore requires; it is nil on a node that always owns its logs.
func New(k *route.Keyspace, root string, lead func(ctx context.Context, vBucket string) error) *Service {
	return &Service{keyspace: k, root: root, lead: lead, turn: make(chan struct{}, 1)}
}

// ReportTo has backups and restores say there how far they are.
func (s *Service) ReportTo(tasks *task.List) { s.tasks = tasks }

// Keeps has restores that ask for it reject backups of other databases than the named one.
func (s *Service) Keeps(database string) { s.database = database }

// Backup implements DKVBackupRestore. Any member of a cluster can be asked: it
// copies its own state, each vBucket at one index. If that is old, the response says so: the
// backup may be all that is left, or one of many that no one looks at.
func (s *Service) Backup(ctx context.Context, r *serverpb.BackupRequest) (*serverpb.Status, error) {
	dir, err := backup.Confine(s.root, r.GetBackupPath())
	if err != nil {
		return nil, route.WithOutcome(err)
	}
	ctx, end := s.tasks.Begin(ctx, task.Backup, r.GetBackupPath())
	defer end()
	done, err := s.begin(ctx)
	if err != nil {
		return nil, route.WithOutcome(err)
	}
	defer done()
	age, err := s.age()
	var histories []string
	if err == nil {
		histories, err = s.backup(ctx, dir)
	}
	if err != nil {
		return nil, route.WithOutcome(err)
	}
	said := slices.DeleteFunc([]string{ofRestores(histories), ofAge(age)}, func(text string) bool { return text == "" })
	return &serverpb.Status{Message: strings.Join(said, "; ")}, nil
}

// begin waits until no other backup or restore of several vBuckets is under way here: else one
// could pass the other between two vBuckets. For a single one its replica sees to that.
func (s *Service) begin(ctx context.Context) (done func(), err error) {
	if _, err := s.keyspace.Only(); err == nil {
		return func() {}, nil
	}
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, kv.Errorf(kv.Unavailable, "another backup or restore is under way: %w", ctx.Err())
	}
}

// age is how long ago the states here were last known to be the newest. The error is why there is
// none that should be copied: that of a removed node stays as it was, and a copy of nothing would
// be taken for that of the database.
func (s *Service) age() (oldest time.Duration, err error) {
	for _, v := range s.keyspace.All() {
		switch status := v.Status(); {
		case status.State == replica.Removed:
			return 0, kv.ErrRemoved
		case status.Unreadable != nil:
			return 0, s.about(v, kv.Errorf(kv.Unavailable, "there is nothing to back up yet: %w", status.Unreadable))
		default:
			oldest = max(oldest, status.Age)
		}
	}
	return oldest, nil
}

// oldState is the age from which the response to a backup has it.
const oldState = time.Minute

// ofAge says in the response that a backup is of an old state.
func ofAge(age time.Duration) string {
	switch {
	case age < oldState:
		return ""
	case age >= replica.NeverFresh:
		return "the backup is of a state that was not known to be the newest since this node was started, or for a day: dkvctl -status says why"
	}
	return fmt.Sprintf("the backup is of a state that was last known to be the newest %v ago: dkvctl -status says whom this node waits for", age.Round(time.Second))
}

// ofRestores says in the response that a backup has some vBuckets from before a restore. The others
// may be replaced only later, by another member: the copies do not show it, but that they are not of
// the same restore does. The same is so after a restore that has failed.
func ofRestores(histories []string) string {
	for _, h := range histories {
		if era.WholeRestore(h) != era.WholeRestore(histories[0]) {
			return "the backup has some vBuckets from before a restore and others from after it: if the restore goes on, back up again when it is done; if it has failed, restore again first"
		}
	}
	return ""
}

// backup makes a backup, and returns the histories of the vBuckets in it if they are several.
func (s *Service) backup(ctx context.Context, dir string) (histories []string, err error) {
	if v, err := s.keyspace.Only(); err == nil {
		return nil, v.Backup(ctx, dir)
	}
	ctx = backup.InSet(ctx, dir)
	err = backup.CreateSet(dir, func(partial string) (err error) {
		histories, err = s.backupAll(ctx, partial)
		return err
	})
	return histories, err
}

// backupAll makes the backups of all vBuckets in the folder partial, and returns their histories.
// Restores that other members serve must not replace one meanwhile.
func (s *Service) backupAll(ctx context.Context, partial string) ([]string, error) {
	before, err := s.histories()
	if err != nil {
		return nil, err
	}
	for i, v := range s.keyspace.All() {
		task.Part(ctx, i+1, len(before))
		if err := v.Backup(ctx, filepath.Join(partial, v.Name)); err != nil {
			return nil, s.about(v, err)
		}
	}
	after, err := s.histories()
	if err == nil && !slices.Equal(before, after) {
		err = kv.Errorf(kv.Unavailable, "a restore or a promotion has replaced vBuckets meanwhile, of which the backup would have some from before; no backup was made, try again when it is done")
	}
	return after, err
}

// histories are those of all vBuckets. While a restore replaces one there is none of the database. A
// restore whose owner is gone goes on no more, nor does it at a node that is out of the log: the old
// keyspace has stayed, and the copy here may be all that is left.
func (s *Service) histories() ([]string, error) {
	var all []string
	for _, v := range s.keyspace.All() {
		status := v.Status()
		if status.Restoring && status.State == replica.Serving && status.Owner.ID != 0 {
			return nil, s.about(v, replica.ErrRestoring)
		}
		all = append(all, status.Identity.History)
	}
	return all, nil
}

// Restore implements DKVBackupRestore. It first checks that the backup has all vBuckets and
// that they match those here, and then replaces one after the other. The error of one names it;
// asking again restores all of them once more. One that was replaced and that slaves have not
// confirmed keeps no other from being replaced.
func (s *Service) Restore(ctx context.Context, r *serverpb.RestoreRequest) (*serverpb.Status, error) {
	ctx, end := s.tasks.Begin(ctx, task.Restore, r.GetRestorePath())
	defer end()
	dir, err := backup.Confine(s.root, r.GetRestorePath())
	if err == nil {
		err = s.check(ctx, dir, r)
	}
	if err != nil {
		return nil, route.WithOutcome(err)
	}
	done, err := s.begin(ctx)
	if err != nil {
		return nil, route.WithOutcome(err)
	}
	defer done()
	if err := s.restoreAll(ctx, dir); err != nil {
		return nil, route.WithOutcome(err)
	}
	return &serverpb.Status{}, nil
}

func (s *Service) restoreAll(ctx context.Context, dir string) error {
	all := s.keyspace.All()
	whole := ""
	if len(all) > 1 {
		ctx, whole = era.RestoreWhole(ctx)
	}
	unconfirmed, first := 0, error(nil)
	for i, v := range all {
		task.Part(ctx, i+1, len(all))
		err := s.restore(ctx, v, s.folderOf(v, dir))
		switch {
		case err == nil:
		case kv.KindOf(err) == kv.NotConfirmed:
			unconfirmed++
			first = cmp.Or(first, s.about(v, err))
		default:
			return partlyRestored(s.about(v, err), i, len(all))
		}
	}
	if err := s.overtaken(whole); err != nil {
		return err
	}
	if first == nil {
		return nil
	}
	return kv.UnknownOutcome(kv.NotConfirmed, fmt.Errorf(
		"all %d vBuckets are restored here, and slaves have not confirmed %d of them; do not restore again, which would take back what is written since: %w",
		len(all), unconfirmed, first))
}

// overtaken returns an error if another member has restored vBuckets that this restore had replaced
// before: each of the two may have the last word on some of them.
func (s *Service) overtaken(whole string) error {
	for _, v := range s.keyspace.All() {
		if era.WholeRestore(v.Status().Identity.History) != whole {
			return kv.UnknownOutcome(kv.Unavailable, s.about(v, errors.New(
				"another restore has replaced it since this one did, so that the database may have vBuckets of both: when that is done, restore the backup again that it is to have")))
		}
	}
	return nil
}

// partlyRestored is the error of a restore after some vBuckets were replaced. It must not be
// mistaken for a restore without effect and repeated as such: these vBuckets accept writes by
// now.
func partlyRestored(err error, done, all int) error {
	if done == 0 {
		return err
	}
	return kv.UnknownOutcome(kv.KindOf(err), fmt.Errorf(
		"%d of %d vBuckets are restored, and asking again restores them once more, without what was written since: %w", done, all, err))
}

// folderOf is the folder of a vBucket in a backup of this node.
func (s *Service) folderOf(v route.VBucket, dir string) string {
	if len(s.keyspace.All()) == 1 {
		return dir
	}
	return filepath.Join(dir, v.Name)
}

// about names the vBucket of an error if there are several.
func (s *Service) about(v route.VBucket, err error) error {
	if len(s.keyspace.All()) == 1 {
		return err
	}
	return fmt.Errorf("vBucket %s: %w", v.Name, err)
}

// check rejects a backup of other vBuckets than those here, and a damaged one, before any vBucket is
// replaced or its leader moved.
func (s *Service) check(ctx context.Context, dir string, r *serverpb.RestoreRequest) error {
	all := s.keyspace.All()
	if len(all) > 1 && backup.IsOne(dir) {
		return kv.Errorf(kv.Precondition, "%s is the backup of one vBucket, and the database here has %d: restore the folder that holds those of all of them; nothing was changed", dir, len(all))
	}
	var parts []backup.Part
	for _, v := range all {
		part, err := backup.Check(s.folderOf(v, dir), backup.Layout{VBucket: v.Name, VBuckets: len(all)})
		if err == nil && r.GetOwn() && !r.GetForce() {
			err = part.Own(s.database, v.Name)
		}
		if err != nil {
			return s.about(v, fmt.Errorf("restore: %w; nothing was changed", err))
		}
		parts = append(parts, part)
	}
	if err := backup.Together(parts); err != nil && !r.GetForce() {
		return fmt.Errorf("restore: %w; nothing was changed", err)
	}
	if s.lead == nil && len(all) == 1 {
		return nil // it verifies the backup itself
	}
	for i, v := range all {
		task.Part(ctx, i+1, len(all))
		if _, err := backup.Verify(ctx, s.folderOf(v, dir)); err != nil {
			return s.about(v, kv.Errorf(replica.KindOf(err), "restore: %w; nothing was changed", err))
		}
	}
	return nil
}

func (s *Service) restore(ctx context.Context, v route.VBucket, dir string) error {
	if s.lead != nil {
		task.Step(ctx, "makes this node lead", "", 0)
		if err := s.lead(ctx, v.Name); err != nil {
			return fmt.Errorf("the node that has the backup must lead to restore it: %w", err)
		}
	}
	return v.Restore(ctx, dir)
}
