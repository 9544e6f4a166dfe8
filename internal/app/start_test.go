package app

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestStartIsLeftWhenToldToStop stops a node while its storage is being opened: the program
// ends without waiting for that.
func TestStartIsLeftWhenToldToStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	opening, release, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	dir, log := t.TempDir(), newWatchedLog()
	code := make(chan int, 1)
	go func() {
		code <- Main(ctx, Process{
			Args: []string{"--listen-addr", "127.0.0.1:0", "--http-listen-addr", "127.0.0.1:0",
				"--db-folder", filepath.Join(dir, "db"), "--db-engine", "badger"},
			Stdout: log, Stderr: log,
			WrapEngine: func(e storage.Engine) storage.Engine {
				close(opening)
				<-release
				return closeTold{e, closed}
			},
		})
	}()
	// What the process's end would release, the test has to.
	t.Cleanup(func() { close(release); <-closed })
	<-opening
	cancel()
	select {
	case c := <-code:
		if c != exitOK {
			t.Errorf("exit code %d; the log:\n%s", c, log)
		}
	case <-time.After(testkit.Patience):
		t.Fatal("the program waits for its storage")
	}
	if !strings.Contains(log.String(), "stopped while it was starting") {
		t.Errorf("the log:\n%s", log)
	}
}

// closeTold is an engine that closes a channel when it is closed.
type closeTold struct {
	storage.Engine
	closed chan struct{}
}

func (e closeTold) Close() error {
	defer close(e.closed)
	return e.Engine.Close()
}
