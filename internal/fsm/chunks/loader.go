package chunks

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrBadSnapshot means that a snapshot is damaged or incomplete.
var ErrBadSnapshot = errors.New("snapshot is damaged")

// Loader fills an empty engine with the chunks of a snapshot, in their order. Until Finish
// the engine holds only a part of a state. Its identity is written last, so that fsm.New rejects
// it until then.
type Loader struct {
	fill Filler
	// identity is the identity record, which is written after all others.
	identity []byte
}

// NewLoader returns a loader into an engine, which the caller still has to close. Until
// Finish, nothing else may use the engine: one that has a bulk load is filled with that.
func NewLoader(engine storage.Engine) *Loader { return &Loader{fill: Filler{engine: engine}} }

// Add writes the records of one chunk, and does not keep its payload. The error is an
// ErrBadSnapshot if the payload cannot be parsed or is not in order. After any error the load
// cannot be continued.
func (l *Loader) Add(payload []byte) error {
	for p := payload; len(p) > 0; {
		var err error
		if p, err = l.record(p); err != nil {
			return err
		}
	}
	return loadError(l.fill.flush())
}

// loadError adds what failed to an engine's error.
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

// record writes the first record of p and returns the rest.
func (l *Loader) record(p []byte) (rest []byte, err error) {
	r, rest, ok := Take(p)
	if !ok || r.Space >= storage.Spaces || r.Space == storage.Changelog {
		return nil, fmt.Errorf("%w: malformed record", ErrBadSnapshot)
	}
	if r.Space == storage.Meta && string(r.Key) == string(layout.KeyIdentity) {
		l.identity = bytes.Clone(r.Value)
		return rest, nil
	}
	return rest, loadError(l.fill.Put(r.Space, r.Key, r.Value))
}

// Finish completes the state: it writes the identity, sets the changelog's floor to the index
// after the snapshot's and makes everything durable. The error is an ErrBadSnapshot if there
// was no state record or no identity.
func (l *Loader) Finish() error {
	// Everything else must be durable before the identity is.
	if err := l.fill.Finish(); err != nil {
		return loadError(err)
	}
	engine := l.fill.engine
	st, err := layout.ReadState(engine)
	if err == nil {
		_, err = history.DecodeIdentity(l.identity)
	}
	if errors.Is(err, storage.ErrCorrupt) {
		return fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}
	if err != nil {
		return loadError(err)
	}
	var b storage.Batch
	b.Put(storage.Meta, layout.KeyIdentity, l.identity)
	b.Put(storage.Meta, layout.KeyFloor, changelog.Key(st.Applied+1))
	return loadError(engine.Write(&b, true))
}
