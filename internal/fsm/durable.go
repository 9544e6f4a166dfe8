package fsm

import (
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
