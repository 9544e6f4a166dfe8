package storage

import "errors"

// Engines wrap these, so that callers can tell the cases apart with errors.Is.
var (
	// ErrClosed is returned by an engine that was closed.
	ErrClosed = errors.New("storage engine is closed")

	// ErrCorrupt means that stored data failed its checksum or cannot be
	// parsed. It is never served.
	ErrCorrupt = errors.New("stored data is corrupt")
	// ErrNoSpace means that the file system is full.
	ErrNoSpace = errors.New("no space left on device")
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
