// Package backup copies an engine's checkpoint into a folder that can be
// verified and restored by itself:
//
//	backup/
//	  MANIFEST.json   what it is, and every file's size and SHA-256; written last
//	  data/           an engine directory
//
// A folder without a manifest is not a backup: a copy that was interrupted never looks like
// one. Verify and Extract read every byte and accept a backup only if it is exactly what the
// manifest says.
package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/kv"
)

const (
	manifestFile = "MANIFEST.json"
	dataFolder   = "data"
	// format is the newest that this release reads. Format 1 does not say how many vBuckets
	// the database has.
	format = 2
)

// Info says what a backup is a copy of.
type Info struct {
	// Engine is the kind that opens the data.
	Engine   string `json:"engine"`
	Database string `json:"database"`
	VBucket  string `json:"vbucket"`
	// VBuckets is how many vBuckets the database has.
	VBuckets int `json:"vbuckets,omitempty"`
	// Set names the backup that this is a part of, by its folder and a random id; empty if it is
	// the only part, or of an earlier release.
	Set     string `json:"set,omitempty"`
	Cluster string `json:"cluster_id"`
	History string `json:"history_id"`
	// Encrypted reports whether the data is encrypted. It takes the node's key to restore it;
	// this manifest is in the clear.
	Encrypted bool `json:"encrypted,omitempty"`
	// Index is the log index that the copy reflects.
	Index   kv.Index  `json:"index"`
	Created time.Time `json:"created"`
	// Version is the version of the dkvsrv that made it.
	Version string `json:"version"`
}

// format returns the oldest format that can express i.
func (i *Info) format() int {
	if i.VBuckets == 0 {
		return 1
	}
	return 2
}

// Manifest is the content of MANIFEST.json.
type Manifest struct {
	Format int `json:"format"`
	Info
	Files []File `json:"files"`
}

// File is one file of a backup.
type File struct {
	// Name is relative to data/, with slashes.
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Bytes returns the size of all files together.
func (m *Manifest) Bytes() uint64 {
	n := uint64(0)
	for i := range m.Files {
		n += uint64(m.Files[i].Size)
	}
	return n
}

// DataDir returns the engine directory of the backup at dir.
func DataDir(dir string) string { return filepath.Join(dir, dataFolder) }

// Prepare makes the parent folder of a new backup at dir. It fails with a kv.Precondition if
// dir exists already, or is inside another backup, which an additional file would make
// invalid.
func Prepare(dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return exists(dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return pathError(dir, err)
	}
	for above := filepath.Dir(dir); above != filepath.Dir(above); above = filepath.Dir(above) {
		if IsOne(above) {
			return kv.Errorf(kv.Precondition, "%s is inside the backup %s; choose a path beside it", dir, above)
		}
	}
	if err := durable.MkdirAll(filepath.Dir(dir)); err != nil {
		return pathError(dir, err)
	}
	return nil
}

func exists(dir string) error {
	return kv.Errorf(kv.Precondition, "backup %s exists already; choose another path", dir)
}

// Create copies the engine directory src into a new backup at dir, which must
// not exist. A crash or an error leaves no backup at dir.
func Create(ctx context.Context, dir, src string, info Info) (Manifest, error) {
	m := Manifest{Format: info.format(), Info: info}
	err := create(dir, func(partial string) error {
		if err := m.fill(ctx, partial, src); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		return nil
	})
	if err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// CreateSet makes a folder at dir, which must not exist, with the backups of several vBuckets:
// fill creates them in the folder that it is given. A crash or an error leaves nothing at dir: a
// set with some of them must not look like one with all.
func CreateSet(dir string, fill func(partial string) error) error {
	return create(dir, func(partial string) error {
		if err := os.Mkdir(partial, 0o700); err != nil {
			return pathError(dir, err)
		}
		return fill(partial)
	})
}

// create has fill make a folder beside dir, durably but for its name, and then gives it that
// name.
func create(dir string, fill func(partial string) error) error {
	if err := Prepare(dir); err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	// What cannot be removed takes room, and is no reason to have no backup. A node logs it when it
	// starts.
	_ = Sweep(parent)
	w, err := NewWorkspace(parent)
	if err != nil {
		return pathError(dir, err)
	}
	defer w.Close() // after a crash, the next backup sweeps it
	partial := w.Path("backup")
	if err := fill(partial); err != nil {
		return err
	}
	switch err := os.Rename(partial, dir); {
	case errors.Is(err, fs.ErrExist):
		return exists(dir) // another one was faster
	case err != nil:
		return fmt.Errorf("backup: %w", err)
	}
	return durable.SyncDir(parent)
}

func (m *Manifest) fill(ctx context.Context, dir, src string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var err error
	if m.Files, err = copyTree(ctx, src, DataDir(dir)); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, manifestFile)
	if err := os.WriteFile(path, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	if err := syncFile(path); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// maxManifest bounds what is read of a manifest: one of a million files has 150 MiB.
const maxManifest = 512 << 20

// readFile reads a manifest. Other users may write to backup-dir: opening a pipe would wait for its
// writer for ever.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxManifest:
		return nil, kv.Errorf(kv.Corrupt, "the manifest is not a regular file of at most %d MiB", maxManifest>>20)
	}
	return io.ReadAll(io.LimitReader(f, maxManifest))
}

func readManifest(dir string) (Manifest, error) {
	var m Manifest
	raw, err := readFile(filepath.Join(dir, manifestFile))
	var known *kv.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, noBackup(dir)
	case errors.As(err, &known):
		return m, kv.Errorf(known.Kind, "backup %s: %w", dir, err)
	case err != nil:
		return m, pathError(dir, err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, kv.Errorf(kv.Corrupt, "backup %s: the manifest is damaged: %w", dir, err)
	}
	if m.Format < 1 || m.Format > format {
		return m, kv.Errorf(kv.Precondition, "backup %s has format %d; this dkvsrv reads formats up to %d: use the release that wrote it, or a newer one", dir, m.Format, format)
	}
	return m, nil
}
