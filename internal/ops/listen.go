package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
)

// Listen opens the address, host:port, for the HTTP server. If the port is taken and was
// not chosen explicitly, Listen uses a free one on the same host and logs it, so that
// several nodes run on one host with one configuration file. Every other failure is an
// error that names the address.
func Listen(ctx context.Context, addr string, explicit bool, log *slog.Logger) (net.Listener, error) {
	var config net.ListenConfig // never SO_REUSEPORT: two servers on one port would share its requests
	ln, err := config.Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		return ln, nil
	case !errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("cannot listen on http-listen-addr %s: %w; set an address of this host", addr, reason(err))
	case explicit:
		return nil, fmt.Errorf("http-listen-addr %s is taken by another process: stop that, or set another port: %w", addr, reason(err))
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("http-listen-addr %q is not host:port: %w", addr, err)
	}
	ln, err = config.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("http-listen-addr %s is taken, and no other port of %s is free: %w", addr, host, reason(err))
	}
	log.Warn("the default http-listen-addr is taken; a free port is used instead", "taken", addr, "addr", ln.Addr().String())
	return ln, nil
}

// reason is the cause within a network error: Listen's own sentence has the rest.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
