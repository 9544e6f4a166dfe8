package systemd

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// manager is the socket of a service manager.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func received(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestManagerHearsOfReadyAndStopping(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{filepath.Join(dir, "notify"), "@" + filepath.Join(dir, "abstract")} {
		conn := manager(t, name)
		ctx, stop := context.WithCancel(t.Context())
		var log bytes.Buffer
		Ready(ctx, []string{"HOME=/", "NOTIFY_SOCKET=" + name}, slog.New(slog.NewTextHandler(&log, nil)))
		if got := received(t, conn); got != "READY=1" {
			t.Errorf("%s: first %q", name, got)
		}
		stop()
		if got := received(t, conn); got != "STOPPING=1" {
			t.Errorf("%s: then %q", name, got)
		}
		if log.Len() > 0 {
			t.Errorf("%s: %s", name, &log)
		}
	}
}

func TestWithoutManagerNothingIsSent(t *testing.T) {
	var log bytes.Buffer
	Ready(t.Context(), []string{"HOME=/", "NOTIFY_SOCKET="}, slog.New(slog.NewTextHandler(&log, nil)))
	if log.Len() > 0 {
		t.Errorf("logged %s", &log)
	}
	Ready(t.Context(), []string{"NOTIFY_SOCKET=" + filepath.Join(t.TempDir(), "gone")}, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "was not told") {
		t.Errorf("a socket that is gone: logged %q", &log)
	}
}
