package ops

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/ops/keys"
)

// registerKeys serves keys.
func (s *Server) registerKeys() {
	reads, writes := s.options.Keys.Calls()
	for path, c := range reads {
		s.get(path, s.data(c))
	}
	for path, c := range writes {
		s.handle(path, http.MethodPost, s.data(c))
	}
}

// maxKeyCalls bounds the calls for keys at the same time, from the first byte of a body to the
// last one of the answer: both are held as a whole.
const maxKeyCalls = 8

// data answers a call for keys. Also one that reads is refused under a foreign name, which
// would let a page of another site read everything (DNS rebinding).
func (s *Server) data(c keys.Call) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := s.admit(r); err != nil {
			return err
		}
		t, leave, err := s.keyCalls.begin(w, r)
		if err != nil {
			return err
		}
		defer leave()
		if err := t.receive(keys.MaxBody); err != nil {
			return err
		}
		document, err := c(t.Request)
		err = t.why(err)
		t.answer()
		var limited *kv.Error
		if errors.As(err, &limited) && limited.Kind == kv.Exhausted && limited.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(limited.RetryAfter.Seconds()))))
			return &Error{Status: http.StatusTooManyRequests, Text: err.Error()}
		}
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, document)
	}
}

// Allow decides whether the caller of a context may make a request at a path, by its keys.
func Allow(g *access.Guard) func(ctx context.Context, path string, request any) error {
	return func(ctx context.Context, path string, request any) error {
		if g == nil {
			return nil
		}
		return g.Check(access.Path(path), auth.FromContext(ctx), request)
	}
}
