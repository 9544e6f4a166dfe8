package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// fewFiles starts a node that may have 300 files and connections open.
func fewFiles(t *testing.T, args ...string) *fixture {
	t.Helper()
	server, err := exec.LookPath("dkvsrv")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := &fixture{t: t, dir: dir}
	f.args = append([]string{"-c", `ulimit -n 300; exec "$@"`, "sh", server,
		"--listen-addr", "127.0.0.1:0", "--http-listen-addr", "127.0.0.1:0", "--db-folder", dir + "/db"}, args...)
	f.startAs("sh")
	t.Cleanup(f.end)
	return f
}

// idle opens connections that send nothing.
func idle(t *testing.T, addr string, n int) []net.Conn {
	t.Helper()
	out := make([]net.Conn, n)
	for i := range out {
		c, err := net.DialTimeout("tcp", addr, testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		out[i] = c
	}
	return out
}

// healthy reports whether GET /health answers that the node serves.
func (f *fixture) healthy() bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + f.http + "/health")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// files returns how many file descriptors the node has open.
func (f *fixture) files() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", f.PID()))
	if err != nil {
		f.t.Fatal(err)
	}
	return len(entries)
}

func (f *fixture) put(key string, size int) error {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	_, err := f.client().Put(ctx, &serverpb.PutRequest{Key: []byte(key), Value: bytes.Repeat([]byte("v"), size)})
	return err
}

// TestIdleConnectionsTakeNoStorage opens more idle connections to each port than the
// process may have open files. Puts, for which storage opens files, and health still work.
func TestIdleConnectionsTakeNoStorage(t *testing.T) {
	for _, args := range [][]string{{"--db-engine", "rocksdb"}, {"--db-engine", "badger"}, {"--role", "master", "--disable-discovery-client"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			f := fewFiles(t, append(args, "--write-buffer-size", "1MiB")...)
			if err := f.put("first", 1000); err != nil {
				t.Fatal(err)
			}
			before := f.files()
			held := append(idle(t, f.grpc, 280), idle(t, f.http, 280)...)
			for i := range 200 {
				if err := f.put(fmt.Sprint(i), 64<<10); err != nil {
					t.Fatalf("put %d with idle connections: %v", i, err)
				}
			}
			testkit.Eventually(t, "health answers", f.healthy)
			t.Logf("%d files before, %d with 560 idle connections", before, f.files())
			for _, c := range held {
				c.Close()
			}
			testkit.Eventually(t, "the descriptors are given back", func() bool { return f.files() < before+40 })
			if err := f.put("after", 1000); err != nil {
				t.Fatal(err)
			}
			if !f.healthy() {
				t.Error("it is not healthy afterwards")
			}
		})
	}
}

// TestOutOfFilesIsWaitedOut takes the last file descriptors of a node. Errors name the
// cause, reads and health continue, and writes resume by themselves when there are
// descriptors again.
func TestOutOfFilesIsWaitedOut(t *testing.T) {
	for _, role := range []string{"none", "master"} {
		t.Run(role, func(t *testing.T) {
			f := fewFiles(t, "--role", role, "--disable-discovery-client", "--write-buffer-size", "1MiB")
			if err := f.put("first", 1000); err != nil {
				t.Fatal(err)
			}
			f.limit(f.files() + 2) // for the health checks' connections
			acknowledged := 0
			testkit.Eventually(t, "writes are refused", func() bool {
				for range 50 {
					if f.put(fmt.Sprint(acknowledged), 64<<10) != nil {
						return true
					}
					acknowledged++
				}
				return false
			})
			if role == "none" { // a master that has failed leaves the vBucket
				err := f.put("more", 1000)
				if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "too many open files") {
					t.Errorf("the refusal: %v", err)
				}
				if resp, err := f.client().Get(context.Background(), &serverpb.GetRequest{Key: []byte("first")}); err != nil || len(resp.Value) != 1000 {
					t.Errorf("a read meanwhile: %v", err)
				}
			}
			f.limit(300)
			testkit.Eventually(t, "writes are taken again", func() bool { return f.put("after", 1000) == nil })
			testkit.Eventually(t, "it is healthy again", f.healthy)
			for i := range acknowledged {
				resp, err := f.client().Get(context.Background(), &serverpb.GetRequest{Key: fmt.Append(nil, i)})
				if err != nil || !resp.Found {
					t.Fatalf("put %d of %d: %v", i, acknowledged, err)
				}
			}
		})
	}
}

// limit sets the most files that the node may have open.
func (f *fixture) limit(n int) {
	f.t.Helper()
	err := unix.Prlimit(f.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(n), Max: 300}, nil)
	if err != nil {
		testkit.SkipFault(f.t, "no file descriptors", err)
	}
}
