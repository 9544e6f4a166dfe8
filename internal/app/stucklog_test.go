package app

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
)

// hanging is a standard error that nothing reads, until it is freed.
type hanging chan struct{}

func (h hanging) Write(p []byte) (int, error) {
	<-h
	return len(p), nil
}

// TestFailureEndsThoughItsLogIsNotRead: a supervisor starts a node again when it has ended.
func TestFailureEndsThoughItsLogIsNotRead(t *testing.T) {
	taken := testkit.Listen(t)
	defer taken.Close() // not before: a listener that nothing refers to is closed with the garbage
	log := make(hanging)
	defer close(log)
	code := make(chan int, 1)
	go func() {
		code <- Main(t.Context(), Process{Args: []string{"--listen-addr", taken.Addr().String(), "--http-listen-addr", "127.0.0.1:0", "--db-folder", filepath.Join(t.TempDir(), "db")}, Stdout: log, Stderr: log})
	}()
	select {
	case c := <-code:
		if c != exitError {
			t.Errorf("exit code %d", c)
		}
	case <-time.After(testkit.Patience):
		t.Fatal("it does not end")
	}
}
