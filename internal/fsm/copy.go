package fsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/task"
)

// ErrBadSnapshot means that a snapshot is damaged or incomplete.
var ErrBadSnapshot = errors.New("snapshot is damaged")

// snapshotSpaces are the spaces that a snapshot consists of, in their order. The changelog
// stays behind: the changes of the copy begin after the snapshot's index.
var snapshotSpaces = []storage.Space{storage.Data, storage.Expiry, storage.Meta}

// copyChunk is the size of the chunks that CopyTo makes, in bytes.
const copyChunk = 256 << 10

// CopyTo fills an empty engine of any kind with the view's state, durably. After an error
// the engine holds a part of the state, which New rejects: the identity is written last.
func (v *View) CopyTo(ctx context.Context, engine storage.Engine) error {
	load := NewLoader(engine)
	task.Step(ctx, "builds the state", task.Bytes, 0)
	var payload, position []byte
	for {
		var err error
		if payload, position, err = v.appendChunk(payload[:0], position, copyChunk); err != nil {
			return fmt.Errorf("copy the state at index %d: %w", v.Index(), err)
		}
		if err := load.Add(payload); err != nil {
			return err
		}
		task.Add(ctx, uint64(len(payload)))
		if len(position) == 0 {
			return load.Finish()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
