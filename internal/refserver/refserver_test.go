package refserver

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestFsyncServerNeedsItsFolder(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ServeFsync(t.Context(), l, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("it serves without a folder")
	}
}

func TestReferencesListenOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.org:0", "127.0.0.1"} {
		if l, err := Listen(addr); err == nil {
			l.Close()
			t.Errorf("it listens on %s", addr)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "usage: refserver"},
		{[]string{"echo"}, exitUsage, "usage: refserver"},
		{[]string{"put", "127.0.0.1:0"}, exitUsage, "usage: refserver"},
		{[]string{"echo", "127.0.0.1:0", "x"}, exitUsage, "usage: refserver"},
		{[]string{"fsync", "127.0.0.1:0"}, exitUsage, "fsync HOST:PORT FOLDER"},
		{[]string{"echo", "0.0.0.0:0"}, exitFailed, "loopback"},
		{[]string{"echo", "1234"}, exitFailed, "not host:port"},
	} {
		var stdout, stderr bytes.Buffer
		if code := Main(t.Context(), tt.args, &stdout, &stderr); code != tt.code || !strings.Contains(stderr.String(), tt.want) || stdout.Len() > 0 {
			t.Errorf("%q: code %d, %q", tt.args, code, stderr.String())
		}
	}
}
