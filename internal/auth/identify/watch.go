package identify

import (
	"context"
	"os"
	"time"
)

// lookInterval is how often the file is looked at. A revoked token works that much longer,
// and once more: see Run.
const lookInterval = 2 * time.Second

// stamp is what changes with a file: with its content, and with the file that a symbolic
// link on the way leads to.
type stamp struct {
	info os.FileInfo // nil if there is no file
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info}
}

func (s stamp) same(other stamp) bool {
	if s.info == nil || other.info == nil {
		return s.info == other.info
	}
	return os.SameFile(s.info, other.info) && s.info.ModTime().Equal(other.info.ModTime()) && s.info.Size() == other.info.Size()
}

// Run reads the file again whenever it has changed, until ctx ends. A file that is being
// written is left alone until it looks the same twice.
func (f *File) Run(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	last := stampOf(f.path)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := stampOf(f.path)
		steady := now.same(last)
		last = now
		if steady && !f.hasSeen(now) {
			_ = f.Reload() // it has logged the error
		}
	}
}

// hasSeen reports whether a file was read already.
func (f *File) hasSeen(now stamp) bool {
	f.reading.Lock()
	defer f.reading.Unlock()
	return now.same(f.seen)
}
