package identify

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/auth/jwt"
)

// lookInterval is how often the file is looked at. A revoked token works that much longer,
// and once more: see Run.
const lookInterval = 2 * time.Second

// stamp is what changes with a file: with its content, and with the file that a symbolic
// link on the way leads to.
type stamp struct {
	path string
	info os.FileInfo // nil if there is no file
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{path: path}
	}
	return stamp{path, info}
}

func (s stamp) same(other stamp) bool {
	if s.info == nil || other.info == nil || s.path != other.path {
		return s.path == other.path && s.info == other.info
	}
	return os.SameFile(s.info, other.info) && s.info.ModTime().Equal(other.info.ModTime()) && s.info.Size() == other.info.Size()
}

func same(a, b []stamp) bool { return slices.EqualFunc(a, b, stamp.same) }

// Run reads the file again whenever it has changed, and has the keys of JWTs fetched, until
// ctx ends. A file that is being written is left alone until it looks the same twice.
func (f *File) Run(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	var fetching fetching
	defer fetching.stop()
	var last []stamp
	var keys *jwt.Keys
	for {
		fetching.by(ctx, f.current.Load().jwts)
		keys = f.sinceKeys(keys)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		last = f.look(last)
	}
}

// sinceKeys has streams look at their grants again if the keys of JWTs are others than the last
// time: one may have been withdrawn. It returns the keys.
func (f *File) sinceKeys(last *jwt.Keys) *jwt.Keys {
	f.reading.Lock()
	defer f.reading.Unlock()
	now := f.current.Load()
	if now.jwts == nil {
		return nil
	}
	keys := now.jwts.Keys()
	if last != nil && keys != last {
		f.use(newIdentities(f.loaded.policy, f.options.NodeName, now.jwts))
	}
	return keys
}

// look reads the file again if it has changed and looks as it did the last time, or if it could not
// be read at all: what caused that, as its mode or a lack of file descriptors, may pass without a
// change of the file. It returns what the file looks like.
func (f *File) look(last []stamp) []stamp {
	f.reading.Lock()
	seen := f.seen
	var unread *fs.PathError
	again := errors.As(f.failed, &unread)
	f.reading.Unlock()
	var now []stamp
	for _, s := range seen {
		now = append(now, stampOf(s.path))
	}
	changed := !same(now, seen)
	if (changed || again) && same(now, last) {
		_ = f.reload(!changed) // it has logged the error
	}
	return now
}

// fetching is the verifier whose keys are fetched at present.
type fetching struct {
	verifier *jwt.Verifier
	cancel   context.CancelFunc
	done     chan struct{}
}

// by has the keys of another verifier fetched from now on.
func (f *fetching) by(ctx context.Context, v *jwt.Verifier) {
	if v == f.verifier {
		return
	}
	f.stop()
	if f.verifier = v; v == nil {
		return
	}
	ctx, f.cancel = context.WithCancel(ctx)
	f.done = make(chan struct{})
	go func() {
		defer close(f.done)
		v.Run(ctx)
	}()
}

// stop ends the fetching and waits for that.
func (f *fetching) stop() {
	if f.done != nil {
		f.cancel()
		<-f.done
		f.done = nil
	}
}
