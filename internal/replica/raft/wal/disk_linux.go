package wal

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// writeSync writes and flushes in one call of the kernel. RWF_DSYNC flushes what it has
// written and no more: there is nothing else in a segment that would have to be flushed.
func (f osFile) writeSync(parts [][]byte, at int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	parts = append(make([][]byte, 0, len(parts)), parts...)
	for len(parts) > 0 {
		var n int
		var failed error
		// The call may be interrupted, and may write less than it was given.
		err := conn.Control(func(fd uintptr) {
			n, failed = unix.Pwritev2(int(fd), parts[:min(len(parts), maxParts)], at, unix.RWF_DSYNC)
		})
		switch {
		case err != nil:
			return err
		case errors.Is(failed, unix.EINTR):
			continue
		case errors.Is(failed, unix.EOPNOTSUPP), errors.Is(failed, unix.ENOSYS):
			return f.writeThenSync(parts, at)
		case failed != nil:
			return failed
		case n == 0:
			return io.ErrShortWrite
		}
		at += int64(n)
		parts = skip(parts, n)
	}
	return nil
}

// maxParts is how many parts the kernel takes in one call (UIO_MAXIOV).
const maxParts = 1024

// skip cuts n bytes off parts.
func skip(parts [][]byte, n int) [][]byte {
	for len(parts) > 0 && n >= len(parts[0]) {
		n -= len(parts[0])
		parts = parts[1:]
	}
	if len(parts) > 0 {
		parts[0] = parts[0][n:]
	}
	return parts
}
