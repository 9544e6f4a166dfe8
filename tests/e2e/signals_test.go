package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestDrain stops a node during an iteration and with an open health watch. The
// iteration is completed, the watch is ended, new requests are rejected, and the exit
// code is 0.
func TestDrain(t *testing.T) {
	f := newFixture(t, t.TempDir())
	ctx := context.Background()
	client := f.client()
	const keys = 20_000
	for from := 0; from < keys; from += 1000 {
		var multi serverpb.MultiPutRequest
		for i := range 1000 {
			multi.PutRequest = append(multi.PutRequest, &serverpb.PutRequest{Key: fmt.Appendf(nil, "key-%06d", from+i), Value: make([]byte, 100)})
		}
		if _, err := client.MultiPut(ctx, &multi); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := client.Iterate(ctx, &serverpb.IterateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	watch, err := healthpb.NewHealthClient(f.conn).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	expectHealth(t, watch, healthpb.HealthCheckResponse_SERVING)

	code := make(chan int, 1)
	go func() { code <- f.End(syscall.SIGTERM) }()
	expectHealth(t, watch, healthpb.HealthCheckResponse_NOT_SERVING)
	if _, err := watch.Recv(); err == nil {
		t.Error("the health watch goes on")
	}
	seen := 1
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("after %d pairs: %v", seen, err)
		}
		seen++
	}
	if seen != keys {
		t.Errorf("the iteration returned %d pairs of %d", seen, keys)
	}
	if c := <-code; c != 0 {
		t.Errorf("exit code %d", c)
	}
	if _, err := client.Put(ctx, &serverpb.PutRequest{Key: []byte("late")}); err == nil {
		t.Error("a stopped node took a write")
	}
}

func expectHealth(t *testing.T, watch grpc.ServerStreamingClient[healthpb.HealthCheckResponse], want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	resp, err := watch.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if resp.Status != want {
		t.Fatalf("health is %v, not %v", resp.Status, want)
	}
}

// TestReload changes the configuration file of a running node and sends it SIGHUP.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "dkvsrv.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("log-level: info\n")
	f := newFixture(t, dir, "--config", file)
	logged := func(what string) func() bool {
		return func() bool {
			raw, err := os.ReadFile(f.logPath())
			return err == nil && strings.Contains(string(raw), what)
		}
	}
	reload := func() {
		t.Helper()
		if err := f.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	write("log-level: warn\nmax-value-size: 1KiB\n")
	reload()
	testkit.Eventually(t, "the key that has to wait is named", logged("key=max-value-size"))
	write("log-level: nonsense\n")
	reload()
	testkit.Eventually(t, "the bad file is refused", logged("the old one stays"))
	if _, err := f.client().Put(context.Background(), &serverpb.PutRequest{Key: []byte("k")}); err != nil {
		t.Errorf("the node does not serve after a bad reload: %v", err)
	}
}
