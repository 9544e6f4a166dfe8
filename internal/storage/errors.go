package storage

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Engines wrap these, so that callers can distinguish the cases with errors.Is.
var (
	// ErrClosed is returned by an engine that was closed.
	ErrClosed = errors.New("storage engine is closed")

	// ErrCorrupt means that stored data failed its checksum or cannot be
	// parsed. It is never served.
	ErrCorrupt = errors.New("stored data is corrupt")
	// ErrNewer means that stored data is of a format that this release does not know.
	ErrNewer = errors.New("stored data was written by a newer release")
	// ErrNoSpace means that the file system is full, or the user's quota of it.
	ErrNoSpace = errors.New("no space left on device")
	// ErrNoFiles means that the process, or the machine, has as many files open as
	// it may.
	ErrNoFiles = errors.New("too many open files")
	// ErrGone means that the data folder is no longer where the next start looks for it.
	ErrGone = errors.New("the data folder is gone")
	// ErrTooLarge means that a batch exceeds what the engine can write
	// atomically; nothing was written.
	ErrTooLarge = errors.New("batch is too large for the storage engine")

	// ErrNotEmpty is returned by BeginLoad of an engine that was written to.
	ErrNotEmpty = errors.New("storage engine is not empty")
	// ErrUnordered means that a load was given anything but puts of ascending
	// keys.
	ErrUnordered = errors.New("a load takes only puts, in ascending order of space and key")

	// ErrLocked is returned by Open when another process has the folder open.
	ErrLocked = errors.New("folder is in use by another process")
	// ErrBadOptions is returned by Open for options that cannot be used.
	ErrBadOptions = errors.New("bad storage options")
)

// Newer is the ErrNewer of something that has a format above known, the newest that this
// release reads. It says what to do about it, as damage would call for something else.
func Newer(what string, format, known uint64) error {
	return fmt.Errorf("%w: %s has format %d, and this release reads up to %d; use the release that wrote it, or a newer one",
		ErrNewer, what, format, known)
}

// shortages are the errors of the operating system for what runs out and comes back
// by itself.
var shortages = []struct {
	errno syscall.Errno
	is    error
}{
	{syscall.ENOSPC, ErrNoSpace},
	{syscall.EDQUOT, ErrNoSpace},
	{syscall.EMFILE, ErrNoFiles},
	{syscall.ENFILE, ErrNoFiles},
}

// Shortage returns what has run out by an error, ErrNoSpace or ErrNoFiles; nil if it
// is about something else. An operation that failed for that may succeed later,
// without anything being repaired.
func Shortage(err error) error {
	for _, s := range shortages {
		if errors.Is(err, s.is) || errors.Is(err, s.errno) {
			return s.is
		}
	}
	return nil
}

// ShortageIn is Shortage for engines that pass on the text of an error of the
// operating system, and not the error.
func ShortageIn(text string) error {
	for _, s := range shortages {
		if strings.Contains(text, s.is.Error()) || strings.Contains(strings.ToLower(text), strings.ToLower(s.errno.Error())) {
			return s.is
		}
	}
	return nil
}

// Remedy is what to do about a shortage, after which an operation resumes by itself.
func Remedy(err error) string {
	switch Shortage(err) {
	case ErrNoSpace:
		return "free some space"
	case ErrNoFiles:
		return "raise the limit of open files (ulimit -n, LimitNOFILE), or close connections"
	default:
		return ""
	}
}
