package badger

import (
	"bytes"
	"errors"
	"fmt"

	bdg "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/dkvdb/dkv/internal/storage"
)

const (
	// loadChunk is how many bytes Badger is handed at once.
	loadChunk = 1 << 20
	// loadTable is how many bytes of pairs make a table. Badger would cut tables
	// by their compressed length, 64 MiB, and hold in memory whatever becomes
	// that; and where it cuts by itself, a failure of the disk is a panic.
	loadTable = 32 << 20
	// loadVersion is the version of all that is loaded: the first.
	loadVersion = 1
)

var _ storage.BulkLoader = (*Engine)(nil)

// load fills an empty engine through Badger's stream writer, which builds tables
// of the last level straight from sorted streams. A stream of ours is a table:
// there is one at a time of keys, and one of parts, which sort behind all keys.
type load struct {
	engine *Engine
	// writer is nil once the load continues by Write, or is over.
	writer *bdg.StreamWriter
	over   error // why nothing more can be added, if so
	order  storage.LoadOrder

	buf      *z.Buffer
	kv       pb.KV // of one pair after the other
	keys     stream
	parts    stream
	streams  uint32 // begun so far
	lastPart []byte // its stored key
	scratch  []byte
}

// stream is a table in the making.
type stream struct {
	id    uint32 // 0 for none
	bytes int
}

// errLoading is a fault of the caller's.
var errLoading = errors.New("badger: a bulk load is under way")

// BeginLoad implements storage.BulkLoader.
func (e *Engine) BeginLoad() (storage.Load, error) {
	e.writeMu.Lock()
	defer e.writeMu.Unlock()
	if err := e.writable(); err != nil {
		return nil, err
	}
	if e.snapshots.current() != 0 {
		return nil, fmt.Errorf("badger: load: %w", storage.ErrNotEmpty)
	}
	l := &load{engine: e}
	if e.opts.Diskless {
		return l, nil // memory tables take pairs faster than tables are built
	}
	l.kv.Version = loadVersion
	l.buf = z.NewBuffer(2*loadChunk, "load")
	l.writer = e.db.NewStreamWriter()
	if err := l.writer.Prepare(); err != nil {
		l.abandon()
		return nil, fmt.Errorf("badger: load: %w", mapped(err))
	}
	e.loading = l
	return l, nil
}

// Add implements storage.Load.
func (l *load) Add(b *storage.Batch) error {
	if err := l.usable(); err != nil {
		return err
	}
	if b.Size() > MaxBatchBytes {
		return l.failed(fmt.Errorf("%w: %d bytes, at most %d", storage.ErrTooLarge, b.Size(), MaxBatchBytes))
	}
	err := l.order.Check(b)
	if err == nil && l.writer != nil {
		err = l.stream(b)
	}
	if errors.Is(err, errPartsUnordered) {
		err = l.settle()
	}
	if err == nil && l.writer == nil {
		return l.engine.Write(b, false)
	}
	return l.failed(err)
}

// usable returns why nothing more can be added, if so.
func (l *load) usable() error {
	if err := l.engine.readable(); err != nil {
		return err
	}
	return l.over
}

// failed ends the load, unless err is nil.
func (l *load) failed(err error) error {
	if err == nil {
		return nil
	}
	l.over = fmt.Errorf("badger: load: %w", mapped(err))
	l.engine.writeMu.Lock()
	defer l.engine.writeMu.Unlock()
	l.abandon()
	l.engine.failed = l.over
	return l.over
}

// abandon frees what the load holds. The caller holds writeMu.
func (l *load) abandon() {
	if l.writer != nil {
		l.writer.Cancel()
		l.writer = nil
	}
	l.release()
}

// release ends the load as far as the engine is concerned.
func (l *load) release() {
	if l.buf != nil {
		_ = l.buf.Release()
		l.buf = nil
	}
	l.engine.loading = nil
}

// Finish implements storage.Load.
func (l *load) Finish() error {
	if err := l.usable(); err != nil {
		return err
	}
	if l.writer != nil {
		if err := l.settle(); err != nil {
			return l.failed(err)
		}
	}
	l.over = errLoadFinished
	return nil
}

// errLoadFinished is a fault of the caller's.
var errLoadFinished = errors.New("badger: the load is finished")

// settle makes all that was streamed durable, and the engine's state.
func (l *load) settle() error {
	if err := l.send(); err != nil {
		return err
	}
	if err := l.engine.checkRoom(l.pending()); err != nil {
		return err
	}
	if err := l.writer.Flush(); err != nil {
		return err
	}
	l.writer = nil
	e := l.engine
	e.writeMu.Lock()
	defer e.writeMu.Unlock()
	e.db.SetDiscardTs(e.snapshots.publish(loadVersion))
	l.release()
	return nil
}

// errPartsUnordered means that a part of a value sorts before the parts of the
// value before it. That takes a key that is another one and zero bytes, with
// values in parts both; so seldom that the rest may as well be written without
// the stream writer.
var errPartsUnordered = errors.New("parts are not in order")

// stream hands over the pairs of a batch.
func (l *load) stream(b *storage.Batch) error {
	return b.Each(func(op storage.Op) error {
		if err := keyLimit.CheckKey(op.Key); err != nil {
			return err // which Badger's tables would store cut short
		}
		l.scratch = appendKey(l.scratch[:0], op.Space, op.Key)
		n := partsOf(len(op.Value))
		if n == 0 {
			return l.put(&l.keys, l.scratch, op.Value, 0)
		}
		var stored []byte
		for i := range n {
			stored = appendPartKey(stored[:0], l.scratch, i)
			if bytes.Compare(stored, l.lastPart) <= 0 {
				return errPartsUnordered
			}
			l.lastPart = append(l.lastPart[:0], stored...)
			if err := l.put(&l.parts, stored, partOf(op.Value, i), 0); err != nil {
				return err
			}
		}
		l.engine.parts[string(l.scratch)] = n
		return l.put(&l.keys, l.scratch, headOf(len(op.Value)), metaInParts)
	})
}

// put adds a stored pair to a stream.
func (l *load) put(s *stream, stored, value []byte, meta byte) error {
	if s.id == 0 {
		l.streams++
		s.id = l.streams
	}
	l.kv.Key, l.kv.Value, l.kv.StreamId, l.kv.UserMeta = stored, value, s.id, nil
	if meta != 0 {
		l.kv.UserMeta = []byte{meta}
	}
	bdg.KVToBuffer(&l.kv, l.buf)
	if s.bytes += len(stored) + len(value) + entryOverhead; s.bytes >= loadTable {
		bdg.KVToBuffer(&pb.KV{StreamId: s.id, StreamDone: true}, l.buf)
		*s = stream{}
		return l.send()
	}
	if l.buf.LenNoPadding() < loadChunk {
		return nil
	}
	return l.send()
}

// send hands Badger what is in the buffer.
func (l *load) send() error {
	if l.buf.LenNoPadding() == 0 {
		return nil
	}
	if err := l.engine.checkRoom(l.pending()); err != nil {
		return err
	}
	err := l.writer.Write(l.buf)
	l.buf.Reset()
	return err
}

// pending is how many bytes there are at most of tables that are not on the disk
// yet.
func (l *load) pending() int {
	tables := int(l.streams)
	for _, level := range l.engine.db.Levels() {
		tables -= level.NumTables
	}
	return max(tables, 1) * loadTable
}
