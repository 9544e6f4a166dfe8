package backup

import (
	"path/filepath"
	"testing"
	"time"
)

// TestListShowsBackups: those of one vBucket and of several, the newest first, a damaged one
// with what is wrong, and no other folder.
func TestListShowsBackups(t *testing.T) {
	root := t.TempDir()
	if got, err := List(filepath.Join(root, "absent")); err != nil || len(got) != 0 {
		t.Errorf("an absent folder: %v, %v", got, err)
	}
	create := func(at time.Time, path ...string) {
		t.Helper()
		i, dir := info, filepath.Join(append([]string{root}, path...)...)
		i.Created = at
		if err := Prepare(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(t.Context(), dir, engineDir(t), i); err != nil {
			t.Fatal(err)
		}
	}
	create(info.Created, "old")
	write(t, filepath.Join(root, "other", "file"), "x")
	write(t, filepath.Join(root, "file"), "x")
	for _, v := range []string{"0", "1"} {
		create(info.Created.Add(time.Hour), "new", v)
	}
	write(t, filepath.Join(root, "damaged", manifestFile), "{")
	got, err := List(root)
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	size := uint64(0)
	for _, text := range content {
		size += uint64(len(text))
	}
	if n := got[0]; n.Path != "new" || n.VBuckets != 2 || n.Bytes != 2*size || n.Database != "db" || n.Version != "v1.2.3" || !n.Created.Equal(info.Created.Add(time.Hour)) || n.Error != "" {
		t.Errorf("%+v", n)
	}
	if n := got[1]; n.Path != "old" || n.VBuckets != 1 {
		t.Errorf("%+v", n)
	}
	if n := got[2]; n.Path != "damaged" || n.Error == "" {
		t.Errorf("%+v", n)
	}
}
