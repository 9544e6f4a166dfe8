package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestDiskFull fills a small file system under a node. With a reserve, writes are
// rejected before the engine fails; with almost none, the engine itself fails on the
// full disk. In both cases reads continue, and writes resume by themselves.
func TestDiskFull(t *testing.T) {
	for _, c := range []struct {
		name, engine, reserve string
		size                  int
	}{
		{"rocksdb refuses in time", "rocksdb", "24MiB", 256 << 20},
		{"badger refuses in time", "badger", "24MiB", 640 << 20}, // maps files ahead of what they hold
		{"rocksdb meets the full disk", "rocksdb", "1", 256 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := smallFileSystem(t, c.size)
			ballast := filepath.Join(dir, "ballast")
			f := newFixture(t, dir, "--db-engine", c.engine, "--disk-reserve", c.reserve, "--write-buffer-size", "4MiB")
			ctx := context.Background()
			client := f.client()
			put := func(key string, size int) error {
				_, err := client.Put(ctx, &serverpb.PutRequest{Key: []byte(key), Value: bytes.Repeat([]byte("v"), size)})
				return err
			}
			if err := put("first", 1000); err != nil {
				t.Fatal(err)
			}
			if err := fill(ballast); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "writes are refused", func() bool { return put("more", 64<<10) != nil })
			testkit.Eventually(t, "the refusal says that the disk is full", func() bool {
				err := put("more", 64<<10)
				return status.Code(err) == codes.ResourceExhausted
			})
			resp, err := client.Get(ctx, &serverpb.GetRequest{Key: []byte("first")})
			if err != nil || len(resp.Value) != 1000 {
				t.Fatalf("a read while the disk is full: %d bytes, %v", len(resp.GetValue()), err)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "writes are taken again", func() bool { return put("after", 1000) == nil })
			resp, err = client.Get(ctx, &serverpb.GetRequest{Key: []byte("first")})
			if err != nil || len(resp.Value) != 1000 {
				t.Fatalf("a read afterwards: %d bytes, %v", len(resp.GetValue()), err)
			}
			f.kill()
			f.start()
			client = f.client()
			for _, key := range []string{"first", "after"} {
				if resp, err := client.Get(ctx, &serverpb.GetRequest{Key: []byte(key)}); err != nil || !resp.Found {
					t.Errorf("%s after a restart: %v %v", key, resp, err)
				}
			}
		})
	}
}

// smallFileSystem mounts a tmpfs, which needs privileges.
func smallFileSystem(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		testkit.SkipFault(t, "disk full", fmt.Errorf("mount a tmpfs: %w", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes a file that takes all free space.
func fill(ballast string) error {
	f, err := os.Create(ballast)
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for {
		if _, err := f.Write(chunk); err != nil {
			if len(chunk) == 1 {
				return nil // full to the last byte
			}
			chunk = chunk[:max(len(chunk)/4, 1)]
		}
	}
}
