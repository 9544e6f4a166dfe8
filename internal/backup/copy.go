package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/task"
)

// copyTree copies the regular files below src durably into dst, which must not exist, and
// returns them.
func copyTree(ctx context.Context, src, dst string) ([]File, error) {
	total, err := treeSize(src)
	if err != nil {
		return nil, err
	}
	task.Step(ctx, "copies the files", task.Bytes, total)
	files := []File{}
	err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		target := filepath.Join(dst, rel)
		switch {
		case d.IsDir():
			return os.Mkdir(target, 0o700)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file", path)
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		f, err := copyFile(ctx, in, target)
		f.Name = filepath.ToSlash(rel)
		files = append(files, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	task.Step(ctx, "makes the copy durable", "", 0)
	return files, syncDirs(dst)
}

// treeSize is the size of the regular files below a folder.
func treeSize(root string) (size uint64, err error) {
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += uint64(info.Size())
		}
		return err
	})
	return size, err
}

func syncDirs(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return durable.SyncDir(path)
	})
}

// copyFile copies in durably to a new file and returns its size and checksum.
func copyFile(ctx context.Context, in io.Reader, dst string) (File, error) {
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return File{}, err
	}
	f, err := digest(ctx, in, out)
	if err == nil {
		err = out.Sync()
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return f, err
}

const copyBuffer = 256 << 10

// digest copies in to out and returns the size and checksum of what it copied.
func digest(ctx context.Context, in io.Reader, out io.Writer) (File, error) {
	h := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(h, out), &cancelReader{ctx: ctx, r: in}, make([]byte, copyBuffer))
	return File{Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}

// cancelReader counts what is read, and fails when ctx ends, since copying a file may take long.
type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	task.Add(c.ctx, uint64(n))
	return n, err
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
