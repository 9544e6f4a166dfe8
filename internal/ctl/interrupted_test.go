package ctl

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
)

// TestInterruptedWhileInputIsRead: a read of a terminal or a pipe does not end by itself.
func TestInterruptedWhileInputIsRead(t *testing.T) {
	f := startFake(t)
	in, end := io.Pipe()
	defer end.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	var stdout, stderr bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- Main(ctx, []string{"-a", f.addr, "-set", "k", "-stdin"}, func(string) (string, bool) { return "", false }, in, &stdout, &stderr)
	}()
	if _, err := end.Write([]byte("the beginning of a value")); err != nil { // it is being read
		t.Fatal(err)
	}
	interrupt()
	if code := <-done; code != exitFailed || stdout.Len() > 0 || stderr.String() != "interrupted while standard input was read: nothing was written\n" {
		t.Errorf("code %d, %q, %q", code, stdout.String(), stderr.String())
	}
	if f.calls("Put") > 0 {
		t.Error("half a value was written")
	}
}

// TestInterruptedBeforeARequest says that nothing was sent, and not that the node does not answer.
func TestInterruptedBeforeARequest(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	for _, line := range []string{"-set k v", "-get k"} {
		got := runMain(ctx, "", nil, append([]string{"-a", testkit.Refusing(t)}, strings.Fields(line)...)...)
		if got.code != exitFailed || got.stderr != "interrupted: nothing was sent\n" {
			t.Errorf("%s: %+v", line, got)
		}
	}
	if got := runMain(ctx, "", nil, "-a", testkit.Refusing(t), "-shell"); got.code != exitFailed || got.stderr != "interrupted\n" {
		t.Errorf("-shell: %+v", got)
	}
	f := startFake(t)
	if got := runMain(ctx, "", nil, "-a", f.addr, "-bench", "-keyCount", "100", "-progress", "0"); got.code != exitFailed || !strings.HasPrefix(got.stderr, "interrupted") {
		t.Errorf("-bench: %+v", got)
	}
}

// TestServerOfAnotherKind: what answers by HTTP alone is no node that is alive.
func TestServerOfAnotherKind(t *testing.T) {
	proxy := httptest.NewUnstartedServer(http.NotFoundHandler())
	proxy.Config.Protocols = new(http.Protocols)
	proxy.Config.Protocols.SetUnencryptedHTTP2(true)
	proxy.Start()
	defer proxy.Close()
	addr := strings.TrimPrefix(proxy.URL, "http://")
	got := dkvctl(t, addr, "-status")
	if got.code != exitFailed || !strings.Contains(got.stdout, "UNREACHABLE") || !strings.Contains(got.stdout, "404") || !strings.Contains(got.stdout, "serves HTTP and no gRPC") {
		t.Errorf("-status: %+v", got)
	}
	f := startFake(t)
	f.put("k", "v")
	expect(t, dkvctl(t, addr, "-set", "k", "w"), outcome{code: exitFailed, stderr: "serves HTTP and no gRPC: is it a proxy"})
	expect(t, dkvctl(t, addr+","+f.addr, "-get", "k"), outcome{stdout: "v\n"})
}
