package dkv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
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
		if err := checkToken(token); err != nil {
			return nil, err
		}
		a = &authorization{token, map[string]string{"authorization": "Bearer " + token}}
		b.last.Store(a)
	}
	return a.metadata, nil
}

// checkToken returns why a token cannot be sent; its content stays out of the text. A server resets calls with
// such a header and gives no reason, as one does that stops.
func checkToken(token string) error {
	if !httpguts.ValidHeaderFieldValue(token) {
		return errors.New("the token has characters that cannot be sent, such as a line break at its end")
	}
	return nil
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
	checked int64 // when the file was last looked at, as now returns it
}

// tokenCheck is how long a file is taken to be as it was. Then it is read again: its time and size
// do not show whether it has changed, as tokens are of one length, and what installs files may set
// their times.
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
	token, err := f.look()
	if err != nil {
		if before == nil {
			return "", fmt.Errorf("the token cannot be read: %w", err)
		}
		token = before.token
	}
	f.read.Store(&readToken{token: token, checked: now()})
	return token, nil
}

// look returns the token that the file holds.
func (f *tokenFile) look() (string, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return "", err
	}
	if len(raw) > maxToken {
		return "", fmt.Errorf("%s has more than %d bytes: it is no token", f.path, maxToken)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return "", fmt.Errorf("%s holds no token: one line of printable characters is expected", f.path)
	}
	return token, nil
}
