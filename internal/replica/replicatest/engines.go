package replicatest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// Engines opens memory engines whose synced writes a test can count, hold up and fail.
type Engines struct {
	// writes counts the synced batches of all engines.
	writes atomic.Int64
	mu     sync.Mutex
	hook   func() error
}

// Writes is how many synced batches all engines have written.
func (e *Engines) Writes() int64 { return e.writes.Load() }

// OnWrite sets a function that every synced write of an engine calls first; nil is none.
func (e *Engines) OnWrite(hook func() error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hook = hook
}

// Hook is what OnWrite was given.
func (e *Engines) Hook() func() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hook
}

func (e *Engines) beforeSync() error {
	e.writes.Add(1)
	if hook := e.Hook(); hook != nil {
		return hook()
	}
	return nil
}

// HoldWrites makes synced writes wait. It returns a channel that gets a value for each
// write that has begun, and a function that lets all of them continue.
func (e *Engines) HoldWrites() (begun chan struct{}, release func()) {
	begun, gate := make(chan struct{}, 1000), make(chan struct{})
	e.OnWrite(func() error {
		begun <- struct{}{}
		<-gate
		return nil
	})
	return begun, sync.OnceFunc(func() { e.OnWrite(nil); close(gate) })
}

// FailWrites makes every synced write from now on fail with err.
func (e *Engines) FailWrites(err error) { e.OnWrite(func() error { return err }) }

// Open opens the engine of a folder, with what was written there before, or a diskless one.
func (e *Engines) Open(dir string) (storage.Engine, error) {
	opts := memory.Options{OnSync: e.beforeSync}
	if dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "checkpoint.mem")); err == nil {
			opts.Dir = dir
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	opened, err := memory.Open(opts)
	if err != nil || dir == "" {
		return opened, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	return &DiskEngine{Engine: opened, dir: dir}, nil
}

// DiskEngine is a memory engine that is found again when it is reopened: each
// synced write replaces a checkpoint in its folder.
type DiskEngine struct {
	*memory.Engine
	dir string
	mu  sync.Mutex
	// BeforeWrite is called first by every write, synced or not; nil is not.
	BeforeWrite func()
}

// Write implements storage.Engine.
func (e *DiskEngine) Write(b *storage.Batch, sync bool) error {
	if e.BeforeWrite != nil {
		e.BeforeWrite()
	}
	if err := e.Engine.Write(b, sync); err != nil || !sync {
		return err
	}
	return e.Save()
}

// Sync implements storage.Engine.
func (e *DiskEngine) Sync() error {
	if err := e.Engine.Sync(); err != nil {
		return err
	}
	return e.Save()
}

// Save replaces the checkpoint in the folder.
func (e *DiskEngine) Save() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	tmp := filepath.Join(e.dir, "saving")
	if err := e.Checkpoint(tmp); err != nil {
		return err
	}
	const file = "checkpoint.mem"
	return errors.Join(os.Rename(filepath.Join(tmp, file), filepath.Join(e.dir, file)), os.Remove(tmp))
}

// OtherKind is the kind of an engine whose files the rig's own kind cannot use.
const OtherKind = "other"

// KindEngine is an engine that says it is of another kind.
type KindEngine struct {
	storage.Engine
	kind string
}

// Kind implements storage.Engine.
func (e KindEngine) Kind() string { return e.kind }

// Rotten has one key whose block is damaged.
type Rotten struct{ storage.Engine }

// Get implements storage.Engine.
func (e Rotten) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if string(key) == "rotten" {
		return nil, false, fmt.Errorf("%w: 000007.sst", storage.ErrCorrupt)
	}
	return e.Engine.Get(s, key)
}

// MultiGet implements storage.Engine.
func (e Rotten) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	for _, key := range keys {
		if string(key) == "rotten" {
			return nil, fmt.Errorf("%w: 000007.sst", storage.ErrCorrupt)
		}
	}
	return e.Engine.MultiGet(s, keys)
}
