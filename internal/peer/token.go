package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

const (
	// maxToken bounds the file of a token, in bytes.
	maxToken = 16 << 10
	// lookEvery is how often the file is looked at, at the most.
	lookEvery = time.Second
)

// Token is the token of a file as per-call credentials. The file is read again when it has
// changed. The token is sent over TLS and to this machine, and nowhere else.
type Token struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	bearer string
	looked time.Time
	failed string
}

var _ credentials.PerRPCCredentials = (*Token)(nil)

// OpenToken reads the file of a token: one line.
func OpenToken(path string, log *slog.Logger) (*Token, error) {
	t := &Token{path: path, log: log}
	if err := t.read(); err != nil {
		return nil, err
	}
	return t, nil
}

// read reads the file. Its time and size do not show whether it has changed: tokens are of one
// length, and what installs files may set their times.
func (t *Token) read() error {
	f, err := os.Open(t.path)
	if err != nil {
		return fmt.Errorf("the token cannot be read: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return fmt.Errorf("the token cannot be read: %w", err)
	}
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || len(raw) > maxToken || bytes.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%s is not the file of a token: it must hold one line with the token and nothing else", t.path)
	}
	t.bearer = "Bearer " + string(raw)
	return nil
}

// current returns the token in the file; the one before if that cannot be read.
func (t *Token) current() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.looked) >= lookEvery {
		t.looked = now
		failed := ""
		if err := t.read(); err != nil {
			if failed = err.Error(); failed != t.failed {
				t.log.Warn("the token that was read before stays in use", "error", err)
			}
		}
		t.failed = failed
	}
	return t.bearer
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t *Token) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	if len(uri) == 0 {
		return nil, errors.New("the token is for calls of other nodes")
	}
	at, err := url.Parse(uri[0])
	if err != nil {
		return nil, err
	}
	info, _ := credentials.RequestInfoFromContext(ctx)
	if credentials.CheckSecurityLevel(info.AuthInfo, credentials.PrivacyAndIntegrity) != nil && !Loopback(at.Hostname()) {
		return nil, nil // the other node says what is missing, and the token stays a secret
	}
	return map[string]string{"authorization": t.current()}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: GetRequestMetadata
// decides for each connection.
func (*Token) RequireTransportSecurity() bool { return false }
