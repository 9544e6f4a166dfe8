package certs

import "time"

// Remind is what Watch does about certificates that expire soon, at a time.
func (s *Store) Remind(now time.Time) { s.remind(now) }

// SetHandshakeTime changes how long a handshake may take, and returns what undoes that.
func SetHandshakeTime(d time.Duration) (undo func()) {
	before := handshakeTime
	handshakeTime = d
	return func() { handshakeTime = before }
}
