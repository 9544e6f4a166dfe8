package badger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bdg "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"
)

// checkpointChunk is how many bytes are handed to the new engine's tables at
// once.
const checkpointChunk = 4 << 20

// Checkpoint implements storage.Engine. It copies the live pairs into a new
// directory as sorted tables, after it has verified the old ones, so that no
// checkpoint is silently short of what a damaged block held. A diskless engine
// writes a directory for an engine on disk.
func (e *Engine) Checkpoint(dir string) (err error) {
	if err := e.readable(); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("badger: checkpoint: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("badger: checkpoint: %w", mapped(err)), os.RemoveAll(dir))
		}
	}()
	if err := e.verify(context.Background()); err != nil {
		return err
	}
	version := e.snapshots.acquire()
	defer e.snapshots.release(version)
	if err := e.copyTo(dir, version); err != nil {
		return err
	}
	return syncAll(dir)
}

// copyTo makes a new engine in dir and fills it with the state at version.
func (e *Engine) copyTo(dir string, version uint64) (err error) {
	opts := e.opts
	opts.Dir, opts.Diskless, opts.BlockCacheBytes = dir, false, 1<<20
	target, err := openManaged(opts.badger(nil))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	w := target.NewStreamWriter()
	if err := w.Prepare(); err != nil {
		return err
	}
	if err := e.stream(w, version); err != nil {
		w.Cancel()
		return err
	}
	return w.Flush()
}

// stream sends every stored pair at version to w, in order. Stored keys are
// copied as they are, so values in parts need no thought.
func (e *Engine) stream(w *bdg.StreamWriter, version uint64) error {
	txn := e.db.NewTransactionAt(version, false)
	defer txn.Discard()
	it := walk(txn, span{}, false)
	defer it.Close()
	buf := z.NewBuffer(checkpointChunk, "checkpoint")
	defer func() { _ = buf.Release() }()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		kv := pb.KV{Key: item.Key(), Version: version}
		if err := item.Value(func(v []byte) error { kv.Value = v; return nil }); err != nil {
			return err
		}
		if meta := item.UserMeta(); meta != 0 {
			kv.UserMeta = []byte{meta}
		}
		bdg.KVToBuffer(&kv, buf)
		if buf.LenNoPadding() < checkpointChunk {
			continue
		}
		if err := e.readable(); err != nil {
			return err
		}
		if err := w.Write(buf); err != nil {
			return err
		}
		buf.Reset()
	}
	return w.Write(buf)
}

// syncAll makes the files of dir and its entry in its parent durable.
func syncAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		err = errors.Join(err, syncPath(filepath.Join(dir, entry.Name())))
	}
	return errors.Join(err, syncPath(dir), syncPath(filepath.Dir(dir)))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
