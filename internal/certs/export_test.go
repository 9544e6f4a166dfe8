package certs

import "time"

// Remind is what Watch does about certificates that expire soon, at a time.
func (s *Store) Remind(now time.Time) { s.remind(now) }
