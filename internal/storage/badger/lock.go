package badger

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/storage"
)

// lockDir locks a directory until the returned file is closed. It is the lock
// that Badger takes, so its own tools respect it; taking it ourselves lets us
// look at the files before Badger does.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(f); err != nil {
		_ = f.Close()
		if errors.Is(err, durable.ErrLocked) {
			return nil, fmt.Errorf("%w: %s", storage.ErrLocked, dir)
		}
		return nil, err
	}
	return f, nil
}

// checkRoom returns storage.ErrNoSpace if writing n bytes would eat into the
// reserve.
func (e *Engine) checkRoom(n int) error {
	if e.opts.Diskless || e.opts.ReserveBytes < 0 {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(e.opts.Dir, &fs); err != nil {
		return fmt.Errorf("badger: free space of %s: %w", e.opts.Dir, err)
	}
	free := int64(fs.Bavail) * int64(fs.Bsize)
	if need := e.opts.ReserveBytes + int64(n); free < need {
		return fmt.Errorf("%w: %s has %d MiB free and the engine needs %d MiB; free some space and writes resume",
			storage.ErrNoSpace, e.opts.Dir, free>>20, need>>20)
	}
	return nil
}
