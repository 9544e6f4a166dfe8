package master

import (
	"context"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/backup"
)

// Backup serves backups and restores within one folder.
type Backup struct {
	serverpb.UnimplementedDKVBackupRestoreServer
	keyspace *Keyspace
	root     string
}

// NewBackup makes the service; root is the absolute path of backup-dir.
func NewBackup(k *Keyspace, root string) *Backup { return &Backup{keyspace: k, root: root} }

// Backup implements DKVBackupRestore.
func (s *Backup) Backup(ctx context.Context, r *serverpb.BackupRequest) (*serverpb.Status, error) {
	v, dir, err := s.at(r.GetBackupPath())
	if err != nil {
		return nil, withOutcome(err)
	}
	if err := v.Backup(ctx, dir); err != nil {
		return nil, withOutcome(err)
	}
	return ok(), nil
}

// Restore implements DKVBackupRestore.
func (s *Backup) Restore(ctx context.Context, r *serverpb.RestoreRequest) (*serverpb.Status, error) {
	v, dir, err := s.at(r.GetRestorePath())
	if err != nil {
		return nil, withOutcome(err)
	}
	if err := v.Restore(ctx, dir); err != nil {
		return nil, withOutcome(err)
	}
	return ok(), nil
}

func (s *Backup) at(path string) (VBucket, string, error) {
	dir, err := backup.Confine(s.root, path)
	if err != nil {
		return VBucket{}, "", err
	}
	v, err := s.keyspace.Only()
	return v, dir, err
}
