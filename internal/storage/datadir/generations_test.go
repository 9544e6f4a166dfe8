package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/durable"
)

func mustVBucket(t *testing.T, d *Dir) *Generations {
	t.Helper()
	g, err := d.VBucket("default")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// names lists a vBucket's folder.
func names(t *testing.T, g *Generations) []string {
	t.Helper()
	entries, err := os.ReadDir(g.path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func wantNames(t *testing.T, g *Generations, want ...string) {
	t.Helper()
	if got := names(t, g); !slices.Equal(got, want) {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}

func current(t *testing.T, g *Generations) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(g.path, "CURRENT"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestNewVBucket(t *testing.T) {
	d := mustOpen(t, t.TempDir())
	g := mustVBucket(t, d)
	if want := filepath.Join(d.Path(), "vbucket-default", "gen-000001"); g.Current() != want {
		t.Errorf("current is %s, want %s", g.Current(), want)
	}
	if got := current(t, g); got != "gen-000001\n" {
		t.Errorf("CURRENT holds %q", got)
	}
	wantNames(t, g, "CURRENT", "gen-000001")
	if again := mustVBucket(t, d); again.Current() != g.Current() {
		t.Errorf("opened again it is %s", again.Current())
	}
}

func TestVBucketNames(t *testing.T) {
	d := mustOpen(t, t.TempDir())
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "a\x00b", "../x"} {
		if _, err := d.VBucket(name); err == nil || !strings.Contains(err.Error(), "cannot be a folder's name") {
			t.Errorf("vBucket %q: error %v", name, err)
		}
	}
	entries, err := os.ReadDir(d.Path())
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestReplacement(t *testing.T) {
	d := mustOpen(t, t.TempDir())
	g := mustVBucket(t, d)
	write(t, filepath.Join(g.Current(), "data"), "old")
	old := g.Current()
	next, err := g.Next()
	if err != nil || filepath.Base(next) != "gen-000002" {
		t.Fatalf("next is %s, %v", next, err)
	}
	if _, err := os.Stat(next); err == nil {
		t.Error("next exists already")
	}
	mkdir(t, next)
	write(t, filepath.Join(next, "data"), "new")

	// A crash here leaves the old one.
	crashed := mustVBucket(t, d)
	if crashed.Current() != old {
		t.Errorf("after a crash before the commit: %s", crashed.Current())
	}
	wantNames(t, g, "CURRENT", "gen-000001")

	if next, err = g.Next(); err != nil {
		t.Fatal(err)
	}
	mkdir(t, next)
	write(t, filepath.Join(next, "data"), "new")
	if err := g.Commit(next); err != nil {
		t.Fatal(err)
	}
	if g.Current() != next {
		t.Errorf("current is %s", g.Current())
	}
	wantNames(t, g, "CURRENT", "gen-000001", "gen-000002") // the old one may still be read

	// A crash here leaves the new one.
	crashed = mustVBucket(t, d)
	raw, err := os.ReadFile(filepath.Join(crashed.Current(), "data"))
	if err != nil || string(raw) != "new" {
		t.Errorf("after a crash behind the commit: %q, %v", raw, err)
	}
	wantNames(t, g, "CURRENT", "gen-000002")
}

// TestNextRemovesLeftovers: what an interrupted replacement has left in the
// place of the next generation must not become part of it.
func TestNextRemovesLeftovers(t *testing.T) {
	g := mustVBucket(t, mustOpen(t, t.TempDir()))
	for range 2 {
		next, err := g.Next()
		if err != nil {
			t.Fatal(err)
		}
		mkdir(t, filepath.Join(next, "half"))
	}
	next, err := g.Next()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(next); err == nil {
		t.Error("the leftover is still there")
	}
}

func TestCommitOfAnythingElse(t *testing.T) {
	g := mustVBucket(t, mustOpen(t, t.TempDir()))
	for _, name := range []string{"gen-000001", "gen-000003", "gen-2", "x", ""} {
		err := g.Commit(filepath.Join(g.path, name))
		if err == nil || errors.Is(err, durable.ErrUncertain) {
			t.Errorf("commit of %q: %v", name, err)
		}
	}
	if got := current(t, g); got != "gen-000001\n" {
		t.Errorf("CURRENT holds %q", got)
	}
}

// TestFailedCommit cannot write CURRENT; the old generation stays.
func TestFailedCommit(t *testing.T) {
	g := mustVBucket(t, mustOpen(t, t.TempDir()))
	mkdir(t, filepath.Join(g.path, "CURRENT.new", "in the way"))
	next, err := g.Next()
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, next)
	if err := g.Commit(next); err == nil || errors.Is(err, durable.ErrUncertain) {
		t.Errorf("commit: %v", err)
	}
	if g.Current() == next || current(t, g) != "gen-000001\n" {
		t.Errorf("current is %s", g.Current())
	}
}

func TestRemove(t *testing.T) {
	g := mustVBucket(t, mustOpen(t, t.TempDir()))
	next, err := g.Next()
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(next, "x"))
	elsewhere := filepath.Join(t.TempDir(), "gen-000009")
	mkdir(t, elsewhere)
	for _, path := range []string{g.Current(), g.path, elsewhere, "", filepath.Join(g.path, "CURRENT")} {
		if err := g.Remove(path); err == nil {
			t.Errorf("%s was removed", path)
		}
	}
	if err := g.Remove(next); err != nil {
		t.Error(err)
	}
	wantNames(t, g, "CURRENT", "gen-000001")
	if _, err := os.Stat(elsewhere); err != nil {
		t.Error(err)
	}
}

func TestScratch(t *testing.T) {
	d := mustOpen(t, t.TempDir())
	g := mustVBucket(t, d)
	for range 2 { // the second call removes what the first one's user left
		path, err := g.Scratch("backup")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("the scratch folder exists already")
		}
		mkdir(t, filepath.Join(path, "half"))
	}
	mustVBucket(t, d)
	wantNames(t, g, "CURRENT", "gen-000001")
}

// TestOpenLeavesOthersAlone: only what the package itself makes is removed.
func TestOpenLeavesOthersAlone(t *testing.T) {
	d := mustOpen(t, t.TempDir())
	g := mustVBucket(t, d)
	kept := []string{"gen-000002.saved", "gen-2", "gen-0000003", "gen--00001", "notes", "gen-"}
	for _, name := range kept {
		mkdir(t, filepath.Join(g.path, name))
	}
	mkdir(t, filepath.Join(g.path, "gen-000007"))
	mkdir(t, filepath.Join(g.path, "tmp-backup", "x"))
	mustVBucket(t, d)
	want := append([]string{"CURRENT", "gen-000001"}, kept...)
	slices.Sort(want)
	wantNames(t, g, want...)
}

func TestDamagedVBucket(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, path string)
		want   string
	}{
		"CURRENT is rubbish": {func(t *testing.T, path string) {
			write(t, filepath.Join(path, "CURRENT"), "gen-x\n")
		}, `vBucket default: CURRENT holds "gen-x\n", which is no generation; restore a backup into an empty folder`},
		"CURRENT is empty": {func(t *testing.T, path string) {
			write(t, filepath.Join(path, "CURRENT"), "")
		}, `vBucket default: CURRENT holds "", which is no generation; restore a backup into an empty folder`},
		"CURRENT is missing": {func(t *testing.T, path string) {
			remove(t, filepath.Join(path, "CURRENT"))
		}, "vBucket default: CURRENT is missing beside gen-000001; write the right generation's name into it"},
		"the generation is missing": {func(t *testing.T, path string) {
			if err := os.Rename(filepath.Join(path, "gen-000001"), filepath.Join(path, "gen-000002")); err != nil {
				t.Fatal(err)
			}
		}, "vBucket default: CURRENT names gen-000001, which is missing; put it back or restore a backup into an empty folder"},
	} {
		t.Run(name, func(t *testing.T) {
			d := mustOpen(t, t.TempDir())
			g := mustVBucket(t, d)
			write(t, filepath.Join(g.Current(), "data"), "x")
			c.damage(t, g.path)
			before := names(t, g)
			for range 2 {
				if _, err := d.VBucket("default"); err == nil || err.Error() != c.want {
					t.Errorf("error %v, want %s", err, c.want)
				}
			}
			wantNames(t, g, before...) // nothing is removed that might be the data
		})
	}
}

// TestCrashInFirstOpen leaves the first generation without the file that names
// it; there is nothing in it, and no operator has to be asked.
func TestCrashInFirstOpen(t *testing.T) {
	d := mustOpen(t, t.TempDir())
	mkdir(t, filepath.Join(d.Path(), "vbucket-default", "gen-000001"))
	write(t, filepath.Join(d.Path(), "vbucket-default", "CURRENT.new"), "gen-0")
	g := mustVBucket(t, d)
	wantNames(t, g, "CURRENT", "gen-000001")
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestUncertainCommit: the next start may find the new generation, so nothing else is built in
// its place.
func TestUncertainCommit(t *testing.T) {
	d := mustOpen(t, t.TempDir())
	g := mustVBucket(t, d)
	next, err := g.Next()
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, next)
	write(t, filepath.Join(next, "data"), "new")
	g.write = func(path string, content []byte) error {
		return errors.Join(durable.WriteFile(path, content), durable.ErrUncertain)
	}
	if err := g.Commit(next); !errors.Is(err, durable.ErrUncertain) {
		t.Fatal(err)
	}
	g.write = durable.WriteFile
	if place, err := g.Next(); !errors.Is(err, durable.ErrUncertain) || !strings.Contains(err.Error(), "restart the node") {
		t.Errorf("a folder for the next generation: %q, %v", place, err)
	}
	g = mustVBucket(t, d)
	if raw, err := os.ReadFile(filepath.Join(g.Current(), "data")); err != nil || string(raw) != "new" {
		t.Errorf("after a restart: %q, %v", raw, err)
	}
}

// TestGenerationThatWasEmptied: an engine would make an empty database of the folder.
func TestGenerationThatWasEmptied(t *testing.T) {
	d := mustOpen(t, t.TempDir())
	g := mustVBucket(t, d)
	if again := mustVBucket(t, d); again.Used() {
		t.Error("a folder that no engine has opened in yet counts as used")
	}
	if err := d.Claim(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.VBucket("default"); err == nil || err.Error() != "vBucket default: gen-000001, which CURRENT names, is empty; put back what was in it or restore a backup into an empty folder" {
		t.Errorf("error %v", err)
	}
	write(t, filepath.Join(g.Current(), "data"), "x")
	if again := mustVBucket(t, d); !again.Used() {
		t.Error("the folder of a node that has run does not count as used")
	}
}

// TestPresentChangesNothing: a look finds the present generation, and leaves what a start removes.
func TestPresentChangesNothing(t *testing.T) {
	d := mustOpen(t, t.TempDir())
	if _, err := d.Present("default"); err == nil {
		t.Error("a vBucket that is not there was found")
	}
	if _, err := os.Stat(filepath.Join(d.Path(), "vbucket-default")); err == nil {
		t.Error("it was made")
	}
	g := mustVBucket(t, d)
	if _, err := d.Present("default"); err == nil {
		t.Error("an engine that is empty was found")
	}
	for _, name := range []string{"gen-000001/f", "gen-000002/f", "tmp-snapshot/f"} {
		path := filepath.Join(g.path, name)
		if err := durable.MkdirAll(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if at, err := d.Present("default"); err != nil || at != g.Current() {
		t.Errorf("%s, %v", at, err)
	}
	wantNames(t, g, "CURRENT", "gen-000001", "gen-000002", "tmp-snapshot")
}
