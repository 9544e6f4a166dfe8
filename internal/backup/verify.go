package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/task"
)

// Verify reads every byte of the backup at dir and compares it with the manifest: each file
// must be there unchanged, and no other. The error is a kv.Corrupt, kv.NotFound or
// kv.Precondition that says what is wrong, or that of ctx.
func Verify(ctx context.Context, dir string) (Manifest, error) {
	return walk(ctx, dir, "checks the backup", func(f File, in io.Reader) (File, error) { return digest(ctx, in, io.Discard) })
}

// Extract copies the engine directory of the backup at dir durably into dst, which must not
// exist, and verifies it at the same time, so that dst has what was verified even if the
// backup changes meanwhile. After an error dst must not be used.
func Extract(ctx context.Context, dir, dst string) error {
	if err := os.Mkdir(dst, 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	_, err := walk(ctx, dir, "copies the backup", func(f File, in io.Reader) (File, error) {
		target := filepath.Join(dst, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return File{}, err
		}
		return copyFile(ctx, in, target)
	})
	if err != nil {
		return err
	}
	if err := syncDirs(dst); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return durable.SyncDir(filepath.Dir(dst))
}

// walk calls consume for the files of a backup and compares what it has read with the
// manifest; step is what a task under ctx does meanwhile. Files are opened through a Root, so that a symbolic link cannot lead elsewhere on
// the server.
func walk(ctx context.Context, dir, step string, consume func(File, io.Reader) (File, error)) (Manifest, error) {
	m, err := readManifest(dir)
	if err != nil {
		return m, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	defer root.Close()
	switch err := m.checkNames(root); {
	case errors.Is(err, fs.ErrPermission):
		return m, pathError(dir, err) // it may well be whole
	case err != nil:
		return m, kv.Errorf(kv.Corrupt, "backup %s: %w", dir, err)
	}
	task.Step(ctx, step, task.Bytes, m.Bytes())
	for _, want := range m.Files {
		got, err := consumeFile(root, want, consume)
		switch {
		case ctx.Err() != nil:
			return m, fmt.Errorf("backup %s: %w", dir, ctx.Err())
		case err != nil:
			return m, fmt.Errorf("backup %s: %w", dir, err)
		case got.Size != want.Size:
			return m, kv.Errorf(kv.Corrupt, "backup %s: %w: %s has %d bytes, not %d",
				dir, storage.ErrCorrupt, want.Name, got.Size, want.Size)
		case got.SHA256 != want.SHA256:
			return m, kv.Errorf(kv.Corrupt, "backup %s: %w: %s fails its checksum",
				dir, storage.ErrCorrupt, want.Name)
		}
	}
	return m, nil
}

func consumeFile(root *os.Root, f File, consume func(File, io.Reader) (File, error)) (File, error) {
	in, err := root.Open(inData(f.Name))
	if errors.Is(err, fs.ErrPermission) {
		return File{}, pathError(filepath.Join(root.Name(), inData(f.Name)), err)
	}
	if err != nil {
		return File{}, err
	}
	defer in.Close()
	return consume(f, in)
}

// inData returns the path of a file of data/, relative to the backup.
func inData(name string) string { return path.Join(dataFolder, name) }

// checkNames compares the files that exist with those in the manifest.
func (m *Manifest) checkNames(root *os.Root) error {
	missing := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Name)) || f.Name != path.Clean(f.Name) {
			return fmt.Errorf("the manifest names a file outside it: %q", f.Name)
		}
		if missing[f.Name] {
			return fmt.Errorf("the manifest names %s twice", f.Name)
		}
		missing[f.Name] = true
	}
	err := fs.WalkDir(root.FS(), dataFolder, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return nil
		}
		rel := name[len(dataFolder)+1:]
		switch {
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file", rel)
		case !missing[rel]:
			return fmt.Errorf("%s is not in the manifest", rel)
		}
		delete(missing, rel)
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range m.Files {
		if missing[f.Name] {
			return fmt.Errorf("%s is missing", f.Name)
		}
	}
	return nil
}
