package fsm

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/task"
)

// Chunk returns the part of the state that begins at a position, and the position after it;
// see chunks.Append.
func (v *View) Chunk(from []byte, limit int) (payload, next []byte, err error) {
	return v.appendChunk(make([]byte, 0, max(limit, 0)), from, limit)
}

// appendChunk appends the payload to dst.
func (v *View) appendChunk(dst, from []byte, limit int) (payload, next []byte, err error) {
	if err := v.enter(); err != nil {
		return nil, nil, err
	}
	defer v.leave()
	payload, next, err = chunks.Append(dst, v.view, from, limit)
	return payload, next, v.m.note(err)
}

// copyChunk is the size of the chunks that CopyTo makes, in bytes.
const copyChunk = 256 << 10

// CopyTo fills an empty engine of any kind with the view's state, durably. After an error
// the engine holds a part of the state, which New rejects: the identity is written last.
func (v *View) CopyTo(ctx context.Context, engine storage.Engine) error {
	load := chunks.NewLoader(engine)
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

// KeepRequests replaces the remembered requests in engine, which no machine has open, with
// those of m. So a retry of a request that was acknowledged before the keyspace was replaced
// is not applied again. If m remembers none, as on a new node, those in engine stay. Nothing
// may be applied to m meanwhile. The result is not durable yet.
func (m *Machine) KeepRequests(ctx context.Context, engine storage.Engine) error {
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	if m.requests.Empty() {
		return nil
	}
	return requests.Copy(ctx, m.engine, engine)
}

// requestStep is how many bytes of remembered requests travel together.
const requestStep = 1 << 20

// ExportRequests calls yield with the remembered requests of one state, as the records of
// chunks, until it returns an error. The bytes are valid until yield returns.
func (m *Machine) ExportRequests(ctx context.Context, yield func(records []byte) error) error {
	v, err := m.View()
	if err != nil {
		return err
	}
	defer v.Close()
	c := chunks.Chunk{Limit: requestStep}
	send := func() error {
		if err := ctx.Err(); err != nil || len(c.Payload) == 0 {
			return err
		}
		defer func() { c.Payload = c.Payload[:0] }()
		return yield(c.Payload)
	}
	for _, prefix := range requests.Prefixes() {
		it := v.walk(storage.Meta, storage.Prefix(prefix))
		for err == nil && it.next() {
			if c.Add(storage.Meta, it.key, it.value) {
				continue
			}
			if err = send(); err == nil {
				c.Add(storage.Meta, it.key, it.value)
			}
		}
		it.close()
		if err == nil {
			err = m.note(it.err)
		}
		if err != nil {
			return fmt.Errorf("export the remembered requests: %w", err)
		}
	}
	return send()
}
