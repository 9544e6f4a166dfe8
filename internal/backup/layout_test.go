package backup

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
)

// TestOnlyTheSamePartOfADatabaseFits: a backup of a vBucket goes into a vBucket with the
// same keys, and no other.
func TestOnlyTheSamePartOfADatabaseFits(t *testing.T) {
	for name, c := range map[string]struct {
		of, into Layout
		want     string // in the refusal; empty for none
	}{
		"the same":                  {Layout{"3", 8}, Layout{"3", 8}, ""},
		"the whole, under any name": {Layout{"default", 1}, Layout{"other", 1}, ""},
		"one of eight into one":     {Layout{"3", 8}, Layout{"default", 1}, "is vBucket 3 of 8 of database db, and the database here has 1: keys would be missing"},
		"the whole into eight":      {Layout{"default", 1}, Layout{"0", 8}, "is vBucket default of 1 of database db, and the database here has 8"},
		"four into eight":           {Layout{"3", 4}, Layout{"3", 8}, "nodes with vbuckets: 4"},
		"another one":               {Layout{"3", 8}, Layout{"4", 8}, "is vBucket 3 of 8 and cannot be vBucket 4, which has other keys"},
		"unknown, same name":        {Layout{"default", 0}, Layout{"default", 1}, ""},
		"unknown, other name":       {Layout{"3", 0}, Layout{"default", 1}, "is of vBucket 3 and does not say of how many"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "b1")
			info := info
			info.VBucket, info.VBuckets = c.of.VBucket, c.of.VBuckets
			if _, err := Create(context.Background(), dir, engineDir(t), info); err != nil {
				t.Fatal(err)
			}
			_, err := Check(dir, c.into)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if kv.KindOf(err) != kv.Precondition || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

// TestPathsThatCannotBeUsed: what is wrong with a path that was asked for is no failure
// of the server's.
func TestPathsThatCannotBeUsed(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "file"), "x")
	for path, want := range map[string]string{
		filepath.Join(root, "file", "b1"):             "leads through a file; name a folder",
		filepath.Join(root, strings.Repeat("n", 300)): "cannot be used",
	} {
		if _, err := Create(context.Background(), path, engineDir(t), info); kv.KindOf(err) != kv.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("create: %v", err)
		}
		if _, err := Check(path, Layout{"default", 1}); kv.KindOf(err) != kv.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("check: %v", err)
		}
	}
	for _, cause := range []error{fs.ErrPermission, syscall.EROFS} {
		if err := pathError("b1", cause); kv.KindOf(err) != kv.Invalid || !strings.Contains(err.Error(), "the user that dkvsrv runs as") {
			t.Errorf("%v: %v", cause, err)
		}
	}
	if err := pathError("b1", syscall.EIO); kv.KindOf(err) != kv.Internal {
		t.Errorf("a disk that fails: %v", err)
	}
}

// A backup with the name of a manifest makes no backup of the folder that it is in: there could be
// no other one then.
func TestBackupNamedAsAManifest(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{manifestFile, "b2"} {
		dir := filepath.Join(root, name)
		if _, err := Create(context.Background(), dir, engineDir(t), info); err != nil || !IsOne(dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if IsOne(root) {
		t.Error("the folder is taken for a backup")
	}
}
