package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

// One predicate says whether an error passes by itself.
func TestShortage(t *testing.T) {
	for name, c := range map[string]struct{ err, want error }{
		"nil":             {nil, nil},
		"corrupt":         {ErrCorrupt, nil},
		"io":              {syscall.EIO, nil},
		"full":            {fmt.Errorf("write: %w", ErrNoSpace), ErrNoSpace},
		"ENOSPC":          {&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, ErrNoSpace},
		"quota":           {&fs.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT}, ErrNoSpace},
		"files":           {fmt.Errorf("open: %w", ErrNoFiles), ErrNoFiles},
		"EMFILE":          {&fs.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}, ErrNoFiles},
		"of the machine":  {fmt.Errorf("%w: %w", errors.New("a"), syscall.ENFILE), ErrNoFiles},
		"only in a text":  {errors.New("IO error: No space left on device: x"), nil},
		"both, and first": {fmt.Errorf("%w: %w", ErrNoFiles, ErrNoSpace), ErrNoSpace},
	} {
		if got := Shortage(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if got := Remedy(c.err); (got != "") != (c.want != nil) {
			t.Errorf("%s: remedy %q", name, got)
		}
	}
	for text, want := range map[string]error{
		"": nil,
		"IO error: No space left on device: While appending to file: /x/000012.log":                ErrNoSpace,
		"IO error: While appending to file: /x/000012.log: Disk quota exceeded":                    ErrNoSpace,
		"IO error: While open a file for random read: /x/000012.sst: Too many open files":          ErrNoFiles,
		"IO error: While open a file for appending: /x/000012.sst: Too many open files in system":  ErrNoFiles,
		"IO error: While pread offset 7 len 4096: /x/000012.sst: Input/output error":               nil,
		"Corruption: block checksum mismatch: stored = 1, computed = 2  in /x/000012.sst offset 0": nil,
	} {
		if got := ShortageIn(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
