// Command dkvsrv is a DKV node: see README.md.
package main

import (
	"context"
	"os"

	"github.com/dkvdb/dkv/internal/app"
	_ "github.com/dkvdb/dkv/internal/timerslack" // Go's scheduler takes less processor time
)

func main() {
	os.Exit(app.Main(context.Background(), app.Process{
		Args:   os.Args[1:],
		Env:    os.Environ(),
		Stdout: os.Stdout,
		Stderr: os.Stderr,
	}))
}
