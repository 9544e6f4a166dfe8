package backup

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/dkvdb/dkv/internal/task"
)

// TestProgress: who looks sees how many bytes of how many were read and written.
func TestProgress(t *testing.T) {
	var tasks task.List
	ctx, end := tasks.Begin(context.Background(), task.Backup, "b1")
	defer end()
	dir := filepath.Join(t.TempDir(), "b1")
	m, err := Create(ctx, dir, engineDir(t), info)
	if err != nil {
		t.Fatal(err)
	}
	if now := tasks.Running()[0]; now.Step != "makes the copy durable" {
		t.Errorf("%+v after the files were copied", now)
	}
	if _, err := Verify(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if now := tasks.Running()[0]; now.Step != "checks the backup" || now.Done != m.Bytes() || now.Total != m.Bytes() || now.Unit != task.Bytes {
		t.Errorf("%+v after %d bytes were checked", now, m.Bytes())
	}
	if err := Extract(ctx, dir, filepath.Join(t.TempDir(), "restored")); err != nil {
		t.Fatal(err)
	}
	if now := tasks.Running()[0]; now.Step != "copies the backup" || now.Done != m.Bytes() || now.Total != m.Bytes() {
		t.Errorf("%+v after %d bytes were copied", now, m.Bytes())
	}
}
