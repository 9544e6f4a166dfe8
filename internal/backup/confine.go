package backup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dkvdb/dkv/internal/kv"
)

// A copy is first made in a folder beside its place, whose name is a little longer, and has
// files of its own. File systems allow names of 255 bytes and paths of 4096.
const (
	maxName = 200
	maxPath = 3500
)

// Confine returns the absolute path for the path of a request, which is relative to root or
// absolute and inside root. A client that may request backups must not be able to write or
// read elsewhere on the server, so Confine rejects symbolic links that lead outside. It also
// rejects names that begin with a dot, which belong to copies in progress. The error is a
// kv.Invalid.
func Confine(root, path string) (string, error) {
	rel := filepath.Clean(path)
	if filepath.IsAbs(rel) {
		var err error
		if rel, err = filepath.Rel(root, rel); err != nil {
			return "", outside(root, path)
		}
	}
	if path == "" || rel == "." || !filepath.IsLocal(rel) {
		return "", outside(root, path)
	}
	if len(root)+len(rel) > maxPath {
		return "", kv.Errorf(kv.Invalid, "path %.64q has %d bytes, and %d are the most below backup-dir; choose a shorter one", path, len(rel), maxPath-len(root))
	}
	for _, name := range strings.Split(rel, string(filepath.Separator)) {
		if len(name) > maxName {
			return "", kv.Errorf(kv.Invalid, "path %.64q has a name of %d bytes, the limit is %d; choose a shorter one", path, len(name), maxName)
		}
		if strings.HasPrefix(name, ".") {
			return "", kv.Errorf(kv.Invalid, "path %q has a name that begins with a dot; choose another", path)
		}
	}
	full := filepath.Join(root, rel)
	realRoot, err := resolve(root)
	if err != nil {
		return "", kv.Errorf(kv.Invalid, "backup-dir (%s): %w", root, err)
	}
	realFull, err := resolve(full)
	if err != nil {
		return "", kv.Errorf(kv.Invalid, "path %q: %w", path, err)
	}
	if !strings.HasPrefix(realFull, strings.TrimSuffix(realRoot, string(filepath.Separator))+string(filepath.Separator)) {
		return "", outside(root, path)
	}
	return full, nil
}

func outside(root, path string) error {
	return kv.Errorf(kv.Invalid, "path %.256q is not inside backup-dir (%s); give a path relative to it", path, root)
}

// resolve follows the symbolic links of the part of path that exists.
func resolve(path string) (string, error) {
	rest := ""
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return "", err
		}
		if _, lerr := os.Lstat(path); lerr == nil {
			// A dangling link: its target may be created at any time.
			return "", err
		}
		rest = filepath.Join(filepath.Base(path), rest)
		path = filepath.Dir(path)
	}
}
