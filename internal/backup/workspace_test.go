package backup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestSweepReachesFoldersOfBackups(t *testing.T) {
	root := t.TempDir()
	if _, err := Create(context.Background(), filepath.Join(root, "daily", "b1"), engineDir(t), info); err != nil {
		t.Fatal(err)
	}
	gone := []string{abandon(t, root), abandon(t, filepath.Join(root, "daily"))}
	if err := os.MkdirAll(filepath.Join(root, "2026", "monday"), 0o700); err != nil {
		t.Fatal(err)
	}
	gone = append(gone, abandon(t, filepath.Join(root, "2026")), abandon(t, filepath.Join(root, "2026", "monday")))
	used, err := NewWorkspace(filepath.Join(root, "daily"))
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	if err := SweepBelow(root); err != nil {
		t.Fatal(err)
	}
	for _, path := range gone {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s stays: %v", path, err)
		}
	}
	if _, err := os.Lstat(used.Path(ownerFile)); err != nil {
		t.Errorf("the workspace of a process: %v", err)
	}
	if _, err := Verify(context.Background(), filepath.Join(root, "daily", "b1")); err != nil {
		t.Error(err)
	}
	if err := SweepBelow(filepath.Join(root, "none")); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
}
