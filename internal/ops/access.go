package ops

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/conns"
	"github.com/dkvdb/dkv/internal/kv"
)

// guarded serves only what the caller may ask for: the row of the path decides, before
// anything else of the request is looked at.
func (s *Server) guarded(next *http.ServeMux) http.Handler {
	g, served := s.options.Access, s.sampled(next)
	if g == nil {
		return served
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path := next.Handler(r) // what is registered, so no other spelling of a path gets around its row
		row := access.Path(path)
		if path == "/" && r.URL.Path != "/" { // the row of the page is for the page alone
			row = access.Unknown()
		}
		id, err := g.Enter(row, callerOf(r))
		if id != nil {
			r = r.WithContext(auth.NewContext(r.Context(), id))
			noteCaller(r)
		}
		switch {
		case err != nil:
			err = s.rejected(w, r, err)
		case row.Local: // what is this machine's alone must not reach others through its proxies and browsers
			err = s.admit(r)
		}
		if err != nil {
			s.auditRefusal(r, err)
			s.fail(w, err)
			return
		}
		served.ServeHTTP(w, r)
	})
}

// still returns an error once the caller of a request may no longer make it: for answers that
// go on for long.
func (s *Server) still(r *http.Request, path string) error {
	if s.options.Access == nil {
		return nil
	}
	return s.options.Access.Still(access.Path(path), auth.FromContext(r.Context()), nil)
}

// rejected is the error of a request that its caller may not make.
func (s *Server) rejected(w http.ResponseWriter, r *http.Request, err error) error {
	out := &Error{Status: http.StatusForbidden, Text: r.URL.Path + ": " + err.Error()}
	switch kv.KindOf(err) {
	case kv.Unauthenticated:
		w.Header().Set("WWW-Authenticate", `Bearer realm="dkv"`)
		out.Status = http.StatusUnauthorized
	case kv.Unavailable:
		out.Status = http.StatusServiceUnavailable
	}
	return out
}

// callerOf is what is known of who makes a request. Requests are not forwarded over HTTP.
func callerOf(r *http.Request) *access.Caller {
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // no address is one of another host
	return &access.Caller{Credentials: auth.Credentials{
		Authorization: strings.Join(r.Header.Values("Authorization"), ", "),
		TLS:           tlsOf(r),
		Host:          from.Addr().Unmap(),
	}}
}

type connKey struct{}

// withConn gives the requests of a connection what is known of it.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// tlsOf is the state of a request's connection; nil in the clear.
func tlsOf(r *http.Request) *tls.ConnectionState {
	if r.TLS != nil {
		return r.TLS
	}
	if c, ours := r.Context().Value(connKey{}).(*conns.Conn); ours {
		return c.TLS()
	}
	return nil
}

// authenticated reports whether a request has shown who makes it, rather than where it comes
// from.
func authenticated(r *http.Request) bool {
	id := auth.FromContext(r.Context())
	return id != nil && (id.Kind == auth.Named || id.Kind == auth.OfNode)
}
