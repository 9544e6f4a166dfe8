package badger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	bdg "github.com/dgraph-io/badger/v4"

	"github.com/dkvdb/dkv/internal/histogram"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

// Kind is what the engine calls itself.
const Kind = "badger"

// Engine is a storage.Engine over Badger.
type Engine struct {
	opts      Options
	db        *bdg.DB
	lock      *os.File // nil for a diskless engine
	snapshots snapshots
	memtable  memtable
	rows      *rowcache.Rows
	commits   histogram.Histogram
	closed    atomic.Bool
	damage    atomic.Pointer[error] // what verification found
	unflushed chan error            // why memory tables cannot be written to disk; see logger

	writeMu sync.Mutex     // held by Write
	failed  error          // why no more writes are accepted
	parts   map[string]int // part counts of values in parts, by stored key
	loading *load          // the bulk load that is under way
	staged  *staged        // the staged write that is under way

	compactMu  sync.Mutex // held by Compact
	stop       context.CancelFunc
	background sync.WaitGroup
}

var _ storage.Engine = (*Engine)(nil)

// Open opens the engine in opts.Dir, after it has verified what is there. Its
// errors wrap storage.ErrLocked, ErrBadOptions, ErrCorrupt and ErrNoSpace
// if these apply.
func Open(opts Options) (*Engine, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("open badger engine: %w", err)
	}
	e := &Engine{opts: opts.withDefaults(), rows: opts.RowCache.Rows(), parts: make(map[string]int), unflushed: make(chan error, 1)}
	if err := e.open(); err != nil {
		if e.db != nil {
			_ = e.db.Close()
		}
		if e.lock != nil {
			_ = e.lock.Close()
		}
		return nil, fmt.Errorf("open badger engine: %w", err)
	}
	var ctx context.Context
	ctx, e.stop = context.WithCancel(context.Background())
	if !opts.Diskless && e.opts.VerifyInterval > 0 {
		e.background.Go(func() { e.verifyAtTimes(ctx) })
	}
	return e, nil
}

func (e *Engine) open() (err error) {
	if !e.opts.Diskless {
		if err := os.MkdirAll(e.opts.Dir, 0o700); err != nil {
			return err
		}
		if e.lock, err = lockDir(e.opts.Dir); err != nil {
			return err
		}
		if err := e.unlock(); err != nil {
			return err
		}
		if err := verifyDir(e.opts.Dir, e.opts.EncryptionKey); err != nil {
			return err
		}
		if err := checkClosed(e.opts.Dir); err != nil {
			return err
		}
		if err := e.settleMemtables(); err != nil {
			return err
		}
	}
	if e.db, err = openManaged(e.opts.badger(e.unflushed)); err != nil {
		return err
	}
	newest, err := e.recoverStaged(e.db.MaxVersion())
	if err != nil {
		return err
	}
	e.db.SetDiscardTs(e.snapshots.publish(newest))
	return e.countPartsAt(newest)
}

// openManaged is Badger's OpenManaged, with its panics as errors.
func openManaged(opts bdg.Options) (db *bdg.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%w: badger panicked: %v", storage.ErrCorrupt, r)
		}
	}()
	db, err = bdg.OpenManaged(opts)
	if err != nil {
		return nil, mapped(err)
	}
	return db, nil
}

// countPartsAt finds the values that are in parts at a version.
func (e *Engine) countPartsAt(version uint64) error {
	clear(e.parts)
	txn := e.db.NewTransactionAt(version, false)
	defer txn.Discard()
	for s := range storage.Space(storage.Spaces) {
		prefix := []byte{spaceByte(s) | partFlag}
		it := walk(txn, span{prefix: prefix}, false)
		for it.Seek(prefix); it.Valid(); it.Next() {
			stored := it.Item().KeyCopy(nil)
			if len(stored) < 5 {
				it.Close()
				return fmt.Errorf("%w: key of a part has %d bytes", storage.ErrCorrupt, len(stored))
			}
			stored[0] &^= partFlag
			e.parts[string(stored[:len(stored)-4])]++
		}
		it.Close()
	}
	return nil
}

// Kind returns "badger".
func (e *Engine) Kind() string { return Kind }

// Compact reclaims space as far as Badger lets it: tables that are
// spread over levels are gathered on one, and what is overwritten or deleted
// is dropped on the way. Memory tables and a few tables on level 0 are left
// alone; the one way to force those blocks all readers meanwhile.
func (e *Engine) Compact() error {
	if err := e.readable(); err != nil {
		return err
	}
	e.compactMu.Lock()
	defer e.compactMu.Unlock()
	if err := e.db.Flatten(compactors); err != nil {
		return fmt.Errorf("badger: compact: %w", mapped(err))
	}
	return nil
}

// Verify implements storage.Engine.
func (e *Engine) Verify(ctx context.Context) error {
	if err := e.readable(); err != nil {
		return err
	}
	return e.verify(ctx)
}

// verifyAtTimes verifies all tables again and again.
func (e *Engine) verifyAtTimes(ctx context.Context) {
	ticker := time.NewTicker(e.opts.VerifyInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := e.verify(ctx); err != nil && ctx.Err() == nil {
			e.opts.Logger.Error("badger: verification", "err", err)
		}
	}
}

// Close implements storage.Engine.
func (e *Engine) Close() error {
	e.writeMu.Lock()
	defer e.writeMu.Unlock()
	if !e.closed.CompareAndSwap(false, true) {
		return nil
	}
	e.stop()
	e.background.Wait()
	if e.loading != nil {
		e.loading.abandon()
	}
	if e.staged != nil { // a failed one is not given up: Open takes it back
		e.staged.close()
	}
	err := e.bounded(func() error {
		err := e.db.Close()
		if e.lock != nil {
			if err == nil {
				markClosed(e.opts.Dir)
			}
			err = errors.Join(err, e.lock.Close())
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("close badger engine: %w", mapped(err))
	}
	return nil
}

// flushTries is how often Badger, which tries once a second, may fail to write a memory table to
// disk before its Close is not waited for any longer.
const flushTries = 3

// bounded calls end, which is Badger's Close and what comes after that. On a disk that takes
// nothing any more, Badger never returns: it tries to write the memory table for ever. The log has
// what that holds, so that nothing is lost without it. What end has not released then, it
// releases if the disk ever takes the table, or with the process.
func (e *Engine) bounded(end func() error) error {
	select {
	case <-e.unflushed: // of earlier on: Badger may have succeeded since
	default:
	}
	closed := make(chan error, 1)
	go func() { closed <- end() }()
	var last error
	for range flushTries {
		select {
		case err := <-closed:
			return err
		case last = <-e.unflushed:
		}
	}
	return fmt.Errorf("the memory table cannot be written to disk, and stays in the log alone: %w", last)
}
