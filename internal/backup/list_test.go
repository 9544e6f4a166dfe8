package backup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// TestListShowsBackups: those of one vBucket and of several, the newest first, a damaged one
// with what is wrong, and no other folder.
func TestListShowsBackups(t *testing.T) {
	root := t.TempDir()
	if got, err := List(filepath.Join(root, "absent")); err != nil || len(got) != 0 {
		t.Errorf("an absent folder: %v, %v", got, err)
	}
	create := func(at time.Time, vBuckets int, path ...string) {
		t.Helper()
		i, dir := info, filepath.Join(append([]string{root}, path...)...)
		i.Created, i.VBucket, i.VBuckets = at, path[len(path)-1], vBuckets
		if err := Prepare(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(t.Context(), dir, engineDir(t), i); err != nil {
			t.Fatal(err)
		}
	}
	create(info.Created, 1, "old")
	write(t, filepath.Join(root, "other", "file"), "x")
	write(t, filepath.Join(root, "file"), "x")
	for _, v := range []string{"0", "1"} {
		create(info.Created.Add(time.Hour), 2, "new", v)
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

// TestListLooksIntoFolders: a folder with backups of one vBucket each is no backup of several.
func TestListLooksIntoFolders(t *testing.T) {
	root := t.TempDir()
	for i, path := range []string{"monday", "2026/monday", "2026/tuesday", "2026/may/all/0", "2026/may/all/1", "2026/may/1/deep/er"} {
		made := info
		made.Created = info.Created.Add(-time.Duration(i) * time.Hour)
		if name := filepath.Base(path); len(name) == 1 {
			made.VBucket, made.VBuckets = name, 2
		}
		if _, err := Create(t.Context(), filepath.Join(root, path), engineDir(t), made); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "2026", "damaged", manifestFile), "{")
	got, err := List(root)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, l := range got {
		paths = append(paths, l.Path)
		if (l.Error != "") != strings.HasSuffix(l.Path, "damaged") || (l.VBuckets == 2) != strings.HasSuffix(l.Path, "all") {
			t.Errorf("%+v", l)
		}
	}
	if want := []string{"monday", "2026/monday", "2026/tuesday", "2026/may/all", "2026/damaged"}; !slices.Equal(paths, want) {
		t.Errorf("%q, want %q", paths, want)
	}
	if _, err := Check(filepath.Join(root, "2026"), Layout{"default", 1}); kv.KindOf(err) != kv.NotFound || !strings.Contains(err.Error(), "but 2 in it: name one of them") {
		t.Error(err)
	}
}

// TestLooksAreBounded: backup-dir may be a folder with much else in it.
func TestLooksAreBounded(t *testing.T) {
	root := t.TempDir()
	for i := range 4 {
		for j := range maxLooked / 3 {
			if err := os.MkdirAll(filepath.Join(root, strconv.Itoa(i), strconv.Itoa(j), "x", "y"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	visits := 0
	if err := look(root, func(below string) bool {
		if visits++; strings.Count(below, "/") >= deepest {
			t.Errorf("it looks at %s", below)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if visits != 4+maxLooked {
		t.Errorf("%d folders are looked at", visits)
	}
}

// TestListShowsWhatIsMissing: a folder that has lost the backups of some vBuckets, and none of a copy in progress.
func TestListShowsWhatIsMissing(t *testing.T) {
	root := t.TempDir()
	i := info
	i.VBucket, i.VBuckets = "2", 4
	for _, dir := range []string{filepath.Join(root, "cut", "2"), filepath.Join(root, ".dkv-workspace-1", "backup")} {
		if err := Prepare(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(t.Context(), dir, engineDir(t), i); err != nil {
			t.Fatal(err)
		}
	}
	got, err := List(root)
	if err != nil || len(got) != 1 || got[0].Path != "cut" || got[0].Error != "3 of its 4 vBuckets are missing" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestSetIsThereWholeOrNotAtAll: nothing is at its place while its parts are made, or after an error.
func TestSetIsThereWholeOrNotAtAll(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "daily", "all")
	broken := errors.New("broken")
	for _, outcome := range []error{broken, nil} {
		err := CreateSet(dir, func(partial string) error {
			for _, v := range []string{"0", "1"} {
				if _, err := Create(t.Context(), filepath.Join(partial, v), engineDir(t), info); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Lstat(dir); err == nil {
					t.Error("a part of it is there")
				}
			}
			return outcome
		})
		if !errors.Is(err, outcome) {
			t.Error(err)
		}
		want := []string{"all"}
		if outcome != nil {
			want = nil
		}
		if left := list(t, filepath.Dir(dir)); !slices.Equal(left, want) {
			t.Errorf("the folder holds %q", left)
		}
	}
	for _, v := range []string{"0", "1"} {
		if _, err := Verify(t.Context(), filepath.Join(dir, v)); err != nil {
			t.Error(err)
		}
	}
	if err := CreateSet(dir, nil); kv.KindOf(err) != kv.Precondition {
		t.Errorf("over another one: %v", err)
	}
}

// TestTwoBackupsOfOneName: the one that comes second leaves the other as it is, and says why.
func TestTwoBackupsOfOneName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "monday")
	fill := func(text string) func(string) error {
		return func(partial string) error { return os.WriteFile(filepath.Join(partial, "part"), []byte(text), 0o600) }
	}
	err := CreateSet(dir, func(partial string) error {
		return errors.Join(CreateSet(dir, fill("first")), fill("second")(partial))
	})
	if kv.KindOf(err) != kv.Precondition || !strings.HasSuffix(err.Error(), "exists already; choose another path") {
		t.Errorf("%v", err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "part")); err != nil || string(raw) != "first" {
		t.Errorf("%q, %v", raw, err)
	}
	if all, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}
