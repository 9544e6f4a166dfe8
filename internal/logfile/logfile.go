// Package logfile keeps the lines of a log in files of bounded size and number, which another
// program may rename meanwhile.
package logfile

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// fileMode is that of new files: the lines say who does what.
const fileMode = 0o600

// File is the file of a log. A full one is renamed to PATH.1, that one to PATH.2, and so
// on. It is not safe for concurrent use.
type File struct {
	path    string
	maxSize int64
	kept    int

	f    *os.File // nil before it is opened, and once it is closed
	size int64
	torn bool // it ends within a line
	// regular: it can be renamed and has a size.
	regular bool
}

// Open opens a file, which is made if it does not exist. At maxSize bytes a new one is begun,
// 0 for never; kept is how many earlier ones are kept.
func Open(path string, maxSize int64, kept int) (*File, error) {
	out := &File{path: path, maxSize: maxSize, kept: kept}
	return out, out.open()
}

// open opens the file, which is made if it does not exist.
func (f *File) open() error {
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() && info.Mode()&os.ModeCharDevice == 0 {
		return fmt.Errorf("%s is not a file", f.path) // opening a pipe waits for its reader
	}
	opened, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, fileMode)
	if err != nil {
		return err
	}
	info, err := opened.Stat()
	if err != nil {
		return errors.Join(err, opened.Close())
	}
	f.f, f.size, f.regular = opened, info.Size(), info.Mode().IsRegular()
	f.torn = f.regular && endsWithinLine(f.path, f.size)
	return nil
}

// endsWithinLine reports whether a file of a size ends within a line, after a crash for
// example.
func endsWithinLine(path string, size int64) bool {
	if size == 0 {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	last := make([]byte, 1)
	_, err = f.ReadAt(last, size-1)
	return err == nil && last[0] != '\n'
}

// Reopen opens the file again, which another program may have renamed. If that fails, the
// one that is open stays in use.
func (f *File) Reopen() error {
	before := f.f
	if err := f.open(); err != nil {
		return err
	}
	if before != nil {
		return before.Close()
	}
	return nil
}

// Write appends a line, or several, and with durable waits until it is on disk.
func (f *File) Write(line []byte, durable bool) error {
	if f.f == nil {
		return os.ErrClosed
	}
	if f.regular && f.removed() {
		if err := f.Reopen(); err != nil {
			return fmt.Errorf("%s was removed: %w", f.path, err) // what is written to it would be lost
		}
	}
	var rotation error
	if f.maxSize > 0 && f.regular && f.size > 0 && f.size+int64(len(line)) > f.maxSize {
		rotation = f.rotate() // the line goes to the file that there is
	}
	if f.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := f.f.Write(line)
	f.size += int64(n)
	if n > 0 {
		f.torn = n < len(line)
	}
	if err == nil && durable && f.regular {
		err = f.f.Sync()
	}
	return errors.Join(err, rotation)
}

// removed reports whether the open file has no name any more, as one that was deleted to make room.
// One that another program has renamed has its new one. Some file systems count no names at all.
func (f *File) removed() bool {
	opened, err := f.f.Stat()
	if err != nil {
		return false
	}
	info, known := opened.Sys().(*syscall.Stat_t)
	return known && info.Nlink == 0 && !f.named()
}

// rotate begins a new file.
func (f *File) rotate() error {
	if f.named() {
		if err := f.shift(); err != nil {
			return err
		}
	}
	return f.Reopen()
}

// named reports whether the open file has the log's name. It has not if it was renamed before and
// the next one could not be opened, for want of file descriptors for example: renaming once more
// for each line that follows would drop all earlier files.
func (f *File) named() bool {
	opened, err := f.f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(f.path)
	return err == nil && os.SameFile(opened, there)
}

// shift makes the open file the newest of the earlier ones, and drops the oldest.
func (f *File) shift() error {
	if f.kept == 0 {
		return ignoreMissing(os.Remove(f.path))
	}
	for i := f.kept; i > 1; i-- {
		if err := ignoreMissing(os.Rename(f.numbered(i-1), f.numbered(i))); err != nil {
			return err
		}
	}
	return ignoreMissing(os.Rename(f.path, f.numbered(1)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (f *File) numbered(i int) string { return f.path + "." + strconv.Itoa(i) }

// Close closes the file. Lines that are written from then on fail with os.ErrClosed.
func (f *File) Close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}
