package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/storage"
)

// Loader fills an empty engine with the payloads of a snapshot, in their order.
// Until Finish the engine holds a part of a state and is worthless: the identity
// comes last, so that New does not take it for a state.
type Loader struct {
	fill filler
	// identity is the identity record, which waits for all the others.
	identity []byte
}

// NewLoader makes a loader for an engine, which stays the caller's.
//
// The engine is the loader's alone until Finish, or until it is closed: an engine
// that has a bulk load is filled by that.
func NewLoader(engine storage.Engine) *Loader { return &Loader{fill: filler{engine: engine}} }

// Add writes one payload's records. The payload stays the caller's. A payload that
// cannot be parsed, or is not in order, is an ErrBadSnapshot; after any error the
// load is lost.
func (l *Loader) Add(payload []byte) error {
	for p := payload; len(p) > 0; {
		var err error
		if p, err = l.record(p); err != nil {
			return err
		}
	}
	return loadError(l.fill.flush())
}

// loadError says what came to nothing by err, an engine's error.
func loadError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrUnordered):
		return fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	default:
		return fmt.Errorf("load snapshot: %w", err)
	}
}

// record puts the first record of p and returns the rest.
func (l *Loader) record(p []byte) (rest []byte, err error) {
	space := storage.Space(p[0])
	key, rest, ok := takeField(p[1:])
	var value []byte
	if ok {
		value, rest, ok = takeField(rest)
	}
	if !ok || space >= storage.Spaces || space == storage.Changelog {
		return nil, fmt.Errorf("%w: malformed record", ErrBadSnapshot)
	}
	if space == storage.Meta && string(key) == string(keyIdentity) {
		l.identity = bytes.Clone(value)
		return rest, nil
	}
	return rest, loadError(l.fill.put(space, key, value))
}

// takeField takes a byte string with its length in front off p.
func takeField(p []byte) (field, rest []byte, ok bool) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return nil, nil, false
	}
	end := w + int(n)
	return p[w:end], p[end:], true
}

// Finish makes all that was added a state: it adds the identity, puts the
// changelog's floor behind the snapshot and makes everything durable. What lacks
// a state or an identity is an ErrBadSnapshot.
func (l *Loader) Finish() error {
	// What came before must not be lost where the identity is not.
	if err := l.fill.finish(); err != nil {
		return loadError(err)
	}
	engine := l.fill.engine
	st, err := readState(engine)
	if err == nil {
		_, err = decodeIdentity(l.identity)
	}
	if errors.Is(err, storage.ErrCorrupt) {
		return fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}
	if err != nil {
		return loadError(err)
	}
	var b storage.Batch
	b.Put(storage.Meta, keyIdentity, l.identity)
	b.Put(storage.Meta, keyFloor, changelog.Key(st.applied+1))
	return loadError(engine.Write(&b, true))
}
