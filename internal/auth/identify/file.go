// Package identify finds the identity of a call by the file of auth-file: from a token, a
// JWT, the certificate of the connection, or nothing. It reads the file again when that
// changes. The rules are in internal/auth/DESIGN.md.
package identify

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/brake"
	"github.com/dkvdb/dkv/internal/auth/jwt"
)

// Options say what the file belongs to.
type Options struct {
	// NodeName is the DNS name that the certificates of nodes carry; "" if there are none.
	NodeName string
	Log      *slog.Logger
}

// File is an open file of identities. It implements auth.Authenticator.
type File struct {
	path    string
	options Options
	log     *slog.Logger
	current atomic.Pointer[identities]
	counts  counts
	// unusable is whether the file was changed to one that cannot be used.
	unusable atomic.Bool

	brake      brake.Brake
	rejections rejections

	// reading is held while the file is read. loaded is what is in use, and seen the stamps
	// of what was read last, also if it could not be used. failed is why it could not; nil if
	// it could.
	reading sync.Mutex
	loaded  *content
	seen    []stamp
	failed  error
}

// Open reads the file.
func Open(path string, o Options) (*File, error) {
	f := &File{path: path, options: o, log: o.Log}
	if _, err := f.read(); err != nil {
		return nil, fmt.Errorf("auth-file: %w", err)
	}
	f.warnOfReaders()
	return f, nil
}

// Check returns the error that Open would return.
func Check(path string) error {
	c, err := load(path)
	if err == nil && c.policy.JWT != nil {
		_, err = jwt.New(*c.policy.JWT, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		return fmt.Errorf("auth-file: %w", err)
	}
	return nil
}

// Reload reads the file again, as after SIGHUP. A file that cannot be used is logged, and
// the one before stays in use.
func (f *File) Reload() error { return f.reload(false) }

// reload is Reload. If it is made again, only another error than the last time is logged and
// counted.
func (f *File) reload(again bool) error {
	f.reading.Lock()
	defer f.reading.Unlock()
	before := f.failed
	changed, err := f.read()
	f.failed = err
	f.unusable.Store(err != nil)
	switch {
	case err != nil && again && before != nil && before.Error() == err.Error():
		return err
	case err != nil:
		f.counts.reloadFailures.Add(1)
		f.log.Error("the file of identities cannot be used, and the one before stays in use", "error", err)
		return err
	case changed:
		f.warnOfReaders()
		f.log.Info("the file of identities was read again", "identities", f.current.Load().count())
	}
	return nil
}

// ErrUnusable is the error of a file that was changed to one that cannot be used. Every caller
// may read it in the health of a node, so it names nothing of the file.
var ErrUnusable = errors.New("auth-file has changed and cannot be used, so that what it said before still holds, revoked tokens included: correct it, the log names the line")

// Failure returns ErrUnusable while the file cannot be used; nil if it can.
func (f *File) Failure() error {
	if f.unusable.Load() {
		return ErrUnusable
	}
	return nil
}

// read reads the file, and takes it into use if its content has changed.
func (f *File) read() (changed bool, err error) {
	next, err := load(f.path)
	f.seen = next.stamps
	if err != nil {
		return false, err
	}
	before := f.current.Load()
	if before != nil && next.same(f.loaded) {
		return false, nil
	}
	verifier, err := f.verifier(next)
	if err != nil {
		return false, err
	}
	f.loaded = next
	f.use(newIdentities(next.policy, f.options.NodeName, verifier))
	return true, nil
}

// use takes identities into use. The caller holds reading.
func (f *File) use(next *identities) {
	if before := f.current.Swap(next); before != nil {
		close(before.replaced)
	}
}

// verifier returns what checks JWTs by a file that was read. One that has fetched its keys
// is kept if nothing about it has changed.
func (f *File) verifier(next *content) (*jwt.Verifier, error) {
	p := next.policy.JWT
	if p == nil {
		return nil, nil
	}
	if before := f.current.Load(); before != nil && before.jwts != nil && before.jwts.Same(*p) && next.keys == f.loaded.keys {
		return before.jwts, nil
	}
	return jwt.New(*p, f.log)
}

// warnOfReaders logs if other users of this machine may read the file or, worse, write it.
func (f *File) warnOfReaders() {
	info, err := os.Stat(f.path)
	if err == nil && info.Mode().Perm()&0o037 != 0 {
		f.log.Warn("other users may read or change the file of identities: chmod 600 it, or 640 for a group that only reads",
			"file", f.path, "mode", fmt.Sprintf("%#o", info.Mode().Perm()))
	}
}

// Changed implements auth.Authenticator.
func (f *File) Changed() <-chan struct{} { return f.current.Load().replaced }

// Current implements auth.Authenticator.
func (f *File) Current(i *auth.Identity) *auth.Identity { return f.current.Load().again(i) }

// Vouched implements auth.Authenticator.
func (f *File) Vouched(name string) (*auth.Identity, error) {
	if i := f.current.Load().vouched(name); i != nil {
		return i, nil
	}
	f.counts.reject(unknownForwarded)
	return nil, auth.ErrRejected
}
