package wal

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
)

// sector is what a disk writes whole or not at all.
const sector = 512

var errPower = errors.New("the power is gone")

// fakeDisk is a disk in memory whose power can go in the middle of a write.
type fakeDisk struct {
	mu    sync.Mutex
	rand  *rand.Rand
	files map[string]*fakeFile
	// left is how many writes and changes of the folder are done before the power goes;
	// negative for never.
	left int
	off  bool
	// full lets no file be made, failing removals fail, after which the file may be gone, and noRoom
	// writes find no room midway.
	full    bool
	failing int
	noRoom  int
	// writes counts those that were made durable, filled the files that were made of zeros.
	writes, filled int
}

func newFakeDisk(seed uint64) *fakeDisk {
	return &fakeDisk{rand: rand.New(rand.NewPCG(seed, 1)), files: map[string]*fakeFile{}, left: -1}
}

// step reports whether a change is done, or whether the power goes in it, which it reports
// once. The caller holds mu.
func (d *fakeDisk) step() (done, torn bool) {
	if d.off {
		return false, false
	}
	if d.left == 0 {
		d.off = true
		return false, true
	}
	if d.left > 0 {
		d.left--
	}
	return true, false
}

// powerOff lets the power go after n more writes and changes of the folder; never if n is
// negative.
func (d *fakeDisk) powerOff(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.off = n, false
}

// setFull lets no file be made, or lets them be made again.
func (d *fakeDisk) setFull(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// written is how many writes were made durable.
func (d *fakeDisk) written() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// restart is the disk when the power is back.
func (d *fakeDisk) restart() *fakeDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := &fakeDisk{rand: rand.New(rand.NewPCG(d.rand.Uint64(), 1)), files: map[string]*fakeFile{}, left: -1, writes: d.writes}
	for name, f := range d.files {
		next.files[name] = &fakeFile{disk: next, data: slices.Clone(f.data)}
	}
	return next
}

func (d *fakeDisk) list() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.files {
		names = append(names, name)
	}
	return names, nil
}

func (d *fakeDisk) create(name string, size int64, old string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old != "" && d.files[old] == nil {
		return nil, os.ErrNotExist
	}
	if d.full && old == "" {
		return nil, fmt.Errorf("create: %w", syscall.ENOSPC)
	}
	done, torn := d.step()
	if done || torn && d.rand.IntN(2) == 0 {
		if old != "" {
			d.files[name] = d.files[old]
			delete(d.files, old)
		} else {
			d.files[name] = &fakeFile{disk: d, data: make([]byte, size)}
			d.filled++
		}
	}
	if !done {
		return nil, errPower
	}
	return d.files[name], nil
}

func (d *fakeDisk) open(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		return nil, os.ErrNotExist
	}
	return f, nil
}

func (d *fakeDisk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failing > 0 {
		d.failing--
		if d.rand.IntN(2) == 0 {
			delete(d.files, name) // that it is gone could not be made durable
		}
		return fmt.Errorf("remove: %w", syscall.EMFILE)
	}
	done, torn := d.step()
	if done || torn && d.rand.IntN(2) == 0 {
		delete(d.files, name)
	}
	if !done {
		return errPower
	}
	return nil
}

type fakeFile struct {
	disk *fakeDisk
	data []byte
}

func (f *fakeFile) writeSync(parts [][]byte, at int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	p := slices.Concat(parts...)
	if at+int64(len(p)) > int64(len(f.data)) {
		return fmt.Errorf("write of %d bytes at %d behind the end at %d", len(p), at, len(f.data))
	}
	if f.disk.noRoom > 0 {
		f.disk.noRoom--
		copy(f.data[at:], p[:len(p)/2])
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	done, torn := f.disk.step()
	switch {
	case done:
		f.disk.writes++
		copy(f.data[at:], p)
		return nil
	case torn:
		// Any of the sectors may be there, in any order.
		for i := range p {
			if first := int64(i) + at; i == 0 || first%sector == 0 {
				n := min(len(p)-i, int(sector-first%sector))
				if f.disk.rand.IntN(2) == 0 {
					copy(f.data[first:], p[i:i+n])
				}
			}
		}
	}
	return errPower
}

func (f *fakeFile) ReadAt(p []byte, at int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if at >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *fakeFile) size() (int64, error) { return int64(len(f.data)), nil }
func (f *fakeFile) Close() error         { return nil }
