package dkv

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// bearer sends a token with each request.
type bearer struct {
	source func(context.Context) (string, error)
	// last is what was sent for the last token: most requests send the same, and gRPC only
	// reads it.
	last atomic.Pointer[authorization]
}

type authorization struct {
	token    string
	metadata map[string]string
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b *bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.source(ctx)
	if err != nil {
		return nil, err
	}
	a := b.last.Load()
	if a == nil || a.token != token {
		a = &authorization{token, map[string]string{"authorization": "Bearer " + token}}
		b.last.Store(a)
	}
	return a.metadata, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: options.mayDial
// decides where the token may travel.
func (*bearer) RequireTransportSecurity() bool { return false }

// tokenFile is a file that holds a token.
type tokenFile struct {
	path string
	// read is the token as it was last read; nil if it never was.
	read atomic.Pointer[readToken]
	mu   sync.Mutex // while the file is looked at
}

type readToken struct {
	token   string
	info    os.FileInfo
	checked int64 // when the file was last looked at, as now returns it
}

// tokenCheck is how long a file is taken to be as it was.
const tokenCheck = time.Second

// maxToken bounds the file, in bytes: JWTs are a few thousand long.
const maxToken = 64 << 10

// token returns the token. The file may be missing for a moment while it is replaced: the
// token that was read before then stays in use.
func (f *tokenFile) token(context.Context) (string, error) {
	if r := f.read.Load(); r != nil && now()-r.checked < int64(tokenCheck) {
		return r.token, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.read.Load()
	if before != nil && now()-before.checked < int64(tokenCheck) {
		return before.token, nil
	}
	next, err := f.look(before)
	switch {
	case err == nil:
	case before == nil:
		return "", fmt.Errorf("the token cannot be read: %w", err)
	default:
		next = &readToken{before.token, before.info, 0}
	}
	next.checked = now()
	f.read.Store(next)
	return next.token, nil
}

// look returns the token as it is now. before is what was read before; nil for nothing.
func (f *tokenFile) look(before *readToken) (*readToken, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	if before != nil && os.SameFile(info, before.info) && info.ModTime().Equal(before.info.ModTime()) && info.Size() == before.info.Size() {
		return &readToken{token: before.token, info: info}, nil
	}
	if info.Size() > maxToken {
		return nil, fmt.Errorf("%s has %d bytes: it is no token", f.path, info.Size())
	}
	raw, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return nil, fmt.Errorf("%s holds no token: one line of printable characters is expected", f.path)
	}
	return &readToken{token: token, info: info}, nil
}
