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

// clockTick is longer than the resolution of file times: two changes within one step of the
// file system's clock have the same time.
const clockTick = 20 * time.Millisecond

// Image copies a folder that a process has open, as a crash would leave it: at a moment when
// nothing in it changes. It returns the path of the copy.
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
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a file may be deleted meanwhile
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

// files returns the files and folders in a folder, at any depth.
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
