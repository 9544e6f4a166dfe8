package backup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
)

// confined makes a backup-dir that holds what may be used to break out of it.
func confined(t *testing.T) (root, outside string) {
	t.Helper()
	top := t.TempDir()
	root, outside = filepath.Join(top, "backups"), filepath.Join(top, "secrets")
	write(t, filepath.Join(root, "b1", "MANIFEST.json"), "{}")
	write(t, filepath.Join(outside, "b9", "MANIFEST.json"), "{}")
	write(t, filepath.Join(top, "backups-of-others", "b1", "MANIFEST.json"), "{}")
	for link, to := range map[string]string{
		"out":      outside,
		"out-rel":  "../secrets",
		"in":       "b1",
		"dangling": filepath.Join(outside, "nowhere"),
		"up":       "..",
		"loop":     "loop",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return root, outside
}

func TestConfineAdmits(t *testing.T) {
	root, _ := confined(t)
	for path, want := range map[string]string{
		"b1":                              "b1",
		"new":                             "new",
		"deep/er/new":                     "deep/er/new",
		"./b1/":                           "b1",
		"x/../b1":                         "b1",
		filepath.Join(root, "b1"):         "b1",
		filepath.Join(root, "a", "b"):     "a/b",
		root + "/x/../../backups/b2":      "b2",
		"in":                              "in",            // a link that stays inside
		"up/backups/b1":                   "up/backups/b1", // out and in again
		"name with spaces and \"quotes\"": "name with spaces and \"quotes\"",
		"b..1":                            "b..1",
	} {
		got, err := Confine(root, path)
		if err != nil || got != filepath.Join(root, want) {
			t.Errorf("%q: %s, %v", path, got, err)
		}
	}
}

func TestConfineRefuses(t *testing.T) {
	root, outside := confined(t)
	for _, path := range []string{
		"", ".", "./", "..", "../secrets", "../secrets/b9", "a/../../secrets", "/", "/etc", outside,
		root, root + "/", root + "/..", root + "/../secrets/b9", root + "-of-others/b1", "../backups-of-others/b1",
		"out", "out/b9", "out/new", "out-rel/b9", "up", "up/secrets", "dangling", "dangling/new",
		"loop", "loop/x", ".hidden", "a/.partial-b1", "a\x00b", strings.Repeat("n", 5000),
		strings.Repeat("n", maxName+1), strings.Repeat("d/", 2000) + "x", // for the names beside it, and the files in it
		"b1/MANIFEST.json/x", // through a file
	} {
		got, err := Confine(root, path)
		if err == nil {
			t.Errorf("%q was admitted as %s", path, got)
			continue
		}
		if kv.KindOf(err) != kv.Invalid {
			t.Errorf("%q: %v has kind %d", path, err, kv.KindOf(err))
		}
	}
}

func TestConfineSaysWhatToDo(t *testing.T) {
	root, _ := confined(t)
	for path, want := range map[string]string{
		"../x":    `path "../x" is not inside backup-dir (ROOT); give a path relative to it`,
		"":        `path "" is not inside backup-dir (ROOT); give a path relative to it`,
		"out/b9":  `path "out/b9" is not inside backup-dir (ROOT); give a path relative to it`,
		".hidden": `path ".hidden" has a name that begins with a dot; choose another`,
	} {
		_, err := Confine(root, path)
		if err == nil || strings.ReplaceAll(err.Error(), root, "ROOT") != want {
			t.Errorf("%q: error %v, want %s", path, err, want)
		}
	}
}

// TestConfineToWhatIsNotThere: backup-dir is made by the first backup.
func TestConfineToWhatIsNotThere(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not", "yet")
	got, err := Confine(root, "b1")
	if err != nil || got != filepath.Join(root, "b1") {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := Confine(root, "../b1"); err == nil {
		t.Error("a path outside was admitted")
	}
}

// TestConfineToALink: backup-dir itself may be a link.
func TestConfineToALink(t *testing.T) {
	top := t.TempDir()
	write(t, filepath.Join(top, "disk2", "b1", "MANIFEST.json"), "{}")
	root := filepath.Join(top, "backups")
	if err := os.Symlink("disk2", root); err != nil {
		t.Fatal(err)
	}
	got, err := Confine(root, "b1")
	if err != nil || got != filepath.Join(root, "b1") {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := Confine(root, "../disk2/b1"); err == nil {
		t.Error("a path outside was admitted")
	}
}

// FuzzConfine looks for a path that leads out: what is admitted lies, links
// resolved, below the root.
func FuzzConfine(f *testing.F) {
	for _, seed := range []string{"b1", "../x", "/etc", "up/..", "out/../b1", "in/../../x", "a//b", "./../"} {
		f.Add(seed)
	}
	top := f.TempDir()
	root := filepath.Join(top, "backups")
	for link, to := range map[string]string{"up": "..", "in": "b1"} {
		if err := os.MkdirAll(filepath.Join(root, "b1"), 0o750); err != nil {
			f.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			f.Fatal(err)
		}
	}
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, err := Confine(root, path)
		if err != nil {
			return
		}
		existing := got
		for {
			if full, err := filepath.EvalSymlinks(existing); err == nil {
				if full != real && !strings.HasPrefix(full, real+"/") {
					t.Errorf("%q leads to %s", path, full)
				}
				return
			}
			existing = filepath.Dir(existing)
		}
	})
}
