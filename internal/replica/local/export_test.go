package local

// What the tests of package local_test see of this one.
const (
	MaxGroupCommands = maxGroupCommands
	MaxGroupBytes    = maxGroupBytes
)

// BeginRestore is the first step of Restore.
func (r *Replica) BeginRestore() (undo func(), err error) { return r.beginRestore() }

// Reopen opens a state that has failed again.
func (r *Replica) Reopen() error { return r.reopen() }
