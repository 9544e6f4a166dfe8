package fsm

import (
	"context"
	"errors"
)

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
