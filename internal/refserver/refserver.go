// Package refserver holds the servers that DKV is measured against: Echo shows what the
// transport alone allows, Fsync what the simplest durable server does. They speak DKV's
// protocol as far as the load generator needs it, know neither TLS nor tokens, and
// listen on loopback addresses only.
package refserver

import (
	"context"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/internal/peer"
)

// maxMessage bounds what the servers receive, in bytes.
const maxMessage = 64 << 20

const usage = `usage: refserver echo HOST:PORT           answers at once and stores nothing
       refserver fsync HOST:PORT FOLDER   fsyncs each put into a file in FOLDER
HOST is a loopback address; port 0 takes a free one. The address is written to stdout.`

// Exit codes of Main.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main runs the server that args, without the program's name, choose, until ctx ends,
// and returns the exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var serve func(context.Context, net.Listener) error
	switch {
	case len(args) == 2 && args[0] == "echo":
		serve = ServeEcho
	case len(args) == 3 && args[0] == "fsync":
		serve = func(ctx context.Context, l net.Listener) error { return ServeFsync(ctx, l, args[2]) }
	default:
		fmt.Fprintln(stderr, usage)
		return exitUsage
	}
	l, err := Listen(args[1])
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	if _, err := fmt.Fprintln(stdout, l.Addr()); err != nil {
		l.Close()
		fmt.Fprintln(stderr, "cannot write the address:", err)
		return exitFailed
	}
	if err := serve(ctx, l); err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	return exitOK
}

// Listen listens for a reference server, on loopback addresses only.
func Listen(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%q is not host:port: %w", addr, err)
	}
	if !peer.Loopback(host) {
		return nil, fmt.Errorf("%q is not a loopback address: reference servers have no protection", host)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return l, nil
}

// serve runs a gRPC server until ctx ends. Requests that are then under way are cut
// off: the measurement is over.
func serve(ctx context.Context, l net.Listener, register func(*grpc.Server)) error {
	s := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage))
	register(s)
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	if err := s.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot serve on %s: %w", l.Addr(), err)
	}
	return nil
}
