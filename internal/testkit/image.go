package testkit

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// clockTick is longer than the steps in which file systems tell the time: two changes
// within one cannot be told apart.
const clockTick = 20 * time.Millisecond

// Image copies a folder that a process has open, as a crash would leave it: at a
// moment in which nothing in it changes. It returns the copy's path.
func Image(t testing.TB, folder string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image")
	Eventually(t, "nothing changes in "+folder, func() bool {
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
		before, err := files(folder)
		for _, f := range before {
			if time.Since(f.changed) < clockTick {
				return false
			}
		}
		if err == nil {
			err = os.CopyFS(out, os.DirFS(folder))
		}
		var after map[string]file
		if err == nil {
			after, err = files(folder)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // as a file that is deleted meanwhile
			t.Fatal(err)
		}
		return err == nil && maps.Equal(before, after)
	})
	return out
}

type file struct {
	size    int64
	changed time.Time
}

// files lists what is in a folder and below.
func files(folder string) (map[string]file, error) {
	out := make(map[string]file)
	return out, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			out[path] = file{info.Size(), info.ModTime()}
		}
		return err
	})
}
