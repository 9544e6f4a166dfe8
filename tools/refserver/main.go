// Refserver runs a server that DKV's figures are compared with. docs/BENCHMARKS.md
// shows how.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/dkvdb/dkv/internal/refserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(refserver.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
