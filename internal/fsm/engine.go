package fsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/storage"
)

// Sync makes everything applied so far durable. After an error the machine writes nothing
// more, as after an error of Apply.
func (m *Machine) Sync() error {
	if err := m.failure(); err != nil {
		return err
	}
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	if err := m.engine.Sync(); err != nil {
		return m.fail(fmt.Errorf("sync at index %d: %w", m.Applied(), err))
	}
	return nil
}

// Flush writes the engine's memtables into files, if the engine can. It may run concurrently
// with Apply.
func (m *Machine) Flush() error {
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	if f, ok := m.engine.(storage.Flusher); ok {
		return f.Flush()
	}
	return nil
}

// Checkpoint writes a copy of the current state into dir; see storage.Engine. It may run
// concurrently with Apply.
func (m *Machine) Checkpoint(dir string) error {
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	return m.engine.Checkpoint(dir)
}

// fail records the first storage error. What the engine holds is unknown from then on, and
// nothing may be written on top of it.
func (m *Machine) fail(err error) error {
	m.broken.CompareAndSwap(nil, &err)
	return m.failure()
}

func (m *Machine) failure() error {
	if err := m.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// ErrClosed is returned by a machine that is closed.
var ErrClosed = errors.New("state machine is closed")

// Readable reports whether reads are admitted: the machine is neither closed nor being
// closed.
func (m *Machine) Readable() bool { return m.gate.open() }

// TryClose closes the machine as Close does. If reads are still running when ctx ends, the
// machine stays open and the result is false.
func (m *Machine) TryClose(ctx context.Context) (bool, error) {
	if !m.gate.tryClose(ctx.Done(), nil) {
		return false, nil
	}
	return true, m.engine.Close()
}

// TryCloseWithout is TryClose without waiting for views to be closed: it revokes the open
// ones and returns how many there were. It waits for a read that a view is in the middle of;
// a later read of the view is an ErrRevoked.
func (m *Machine) TryCloseWithout(ctx context.Context) (closed bool, revoked int, err error) {
	if !m.gate.tryClose(ctx.Done(), func() { revoked = m.views.revoke() }) {
		return false, revoked, nil
	}
	return true, revoked, m.engine.Close()
}

// Close rejects new reads, waits for the running ones and closes the engine. It is
// idempotent.
func (m *Machine) Close() error {
	m.gate.close()
	return m.engine.Close()
}
