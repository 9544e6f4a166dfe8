package wal

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// contents are the files in a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	names, err := folder{dir}.list()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = info.ModTime().String() + string(raw)
	}
	return out
}

// TestALookChangesNothing, also where a start would write: the last frame once more, and the removal
// of a segment that was never begun.
func TestALookChangesNothing(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SaveBootstrapInfo(1, 1, pb.Bootstrap{Addresses: map[uint64]string{1: "a:1", 2: "b:1"}}); err != nil {
		t.Fatal(err)
	}
	save(t, l, 1, pb.State{Term: 3, Vote: 1, Commit: 4}, entries(1, 9, 3, 100)...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	numbers, err := (&Log{disk: folder{dir}}).segmentNumbers()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, segmentName(numbers[len(numbers)-1]+1)), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	r, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	e, err := r.Extent(1, 1)
	if err != nil || e.First != 1 || e.Last != 9 || e.Term != 3 || e.Commit != 4 || len(e.Bootstrap.Addresses) != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	if got, err := r.Entries(1, 1, 5, 10, 1<<20); err != nil || len(got) != 5 || got[4].Index != 9 {
		t.Errorf("%d entries, %v", len(got), err)
	}
	if _, err := r.Entries(1, 1, 10, 11, 1<<20); err == nil {
		t.Error("an entry behind the end is there")
	}
	if _, err := r.Extent(1, 2); err == nil {
		t.Error("the log has something of another replica")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if after := contents(t, dir); !maps.Equal(before, after) {
		t.Error("a file was changed, written again, made or removed")
	}
}
