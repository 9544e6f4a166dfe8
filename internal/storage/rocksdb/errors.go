package rocksdb

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/dkvdb/dkv/internal/storage"
)

// errUnknownSpace is a fault of the caller's.
var errUnknownSpace = errors.New("rocksdb: unknown space")

// statusError makes an error of what the shim returned and frees the message.
func statusError(code C.int, message *C.char) error {
	if code == C.DKV_OK {
		return nil
	}
	text := C.GoString(message)
	C.free(unsafe.Pointer(message))
	switch code {
	case C.DKV_CORRUPT:
		return fmt.Errorf("rocksdb: %w: %s", storage.ErrCorrupt, text)
	case C.DKV_NO_SPACE:
		return fmt.Errorf("rocksdb: %w: %s", storage.ErrNoSpace, text)
	case C.DKV_NOT_EMPTY:
		return fmt.Errorf("rocksdb: %w: %s", storage.ErrNotEmpty, text)
	case C.DKV_UNORDERED:
		return fmt.Errorf("rocksdb: %w: %s", storage.ErrUnordered, text)
	}
	if short := storage.ShortageIn(text); short != nil {
		return fmt.Errorf("rocksdb: %w: %s", short, text)
	}
	return fmt.Errorf("rocksdb: %s", text)
}

// statusTextError classifies an error of the binding, which passes on RocksDB's
// status as text only: "<code>: <subcode>: <details>".
func statusTextError(err error) error {
	text := err.Error()
	has := func(prefix string) bool { return strings.HasPrefix(text, prefix) }
	switch {
	case has("Corruption: "):
		return fmt.Errorf("%w: %s", storage.ErrCorrupt, text)
	case has("IO error: No such file or directory: "):
		return fmt.Errorf("%w: a file of the database is missing: %s", storage.ErrCorrupt, text)
	case has("IO error: No space left on device: "):
		return fmt.Errorf("%w: %s", storage.ErrNoSpace, text)
	case has("IO error: lock hold by current process"), has("IO error: While lock file: "):
		return fmt.Errorf("%w: stop that process, or give another folder", storage.ErrLocked)
	case has("Invalid argument: "), has("Not implemented: "):
		return fmt.Errorf("%w: %s", storage.ErrBadOptions, text)
	}
	if short := storage.ShortageIn(text); short != nil {
		return fmt.Errorf("%w: %w", short, err)
	}
	return err
}
