package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned for a file or folder that is locked already, by this
// process or another.
var ErrLocked = errors.New("it is locked by another process")

// Lock locks an open file or folder until it is closed, or the process ends. It
// does not wait: the error is ErrLocked if it is locked already.
func Lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrLocked
	case err != nil:
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}
