package badger

import (
	"errors"
	"fmt"

	bdg "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/y"

	"github.com/dkvdb/dkv/internal/storage"
)

// mapped wraps an error of Badger's so that it is one of storage's if there
// is a fitting one.
func mapped(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bdg.ErrDBClosed), errors.Is(err, bdg.ErrBlockedWrites):
		return fmt.Errorf("%w: %w", storage.ErrClosed, err)
	case errors.Is(err, bdg.ErrTxnTooBig):
		return fmt.Errorf("%w: %w", storage.ErrTooLarge, err)
	case errors.Is(err, y.ErrChecksumMismatch):
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	// The text, too, because Badger formats some errors of the system with %v
	// instead of wrapping them.
	for _, short := range []error{storage.Shortage(err), storage.ShortageIn(err.Error())} {
		if short != nil {
			return fmt.Errorf("%w: %w", short, err)
		}
	}
	return err
}
