package alerts

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/tests/deploy/scraped"
)

// addressesOf reserves two addresses for each of so many nodes.
func addressesOf(t *testing.T, nodes int) func() string {
	t.Helper()
	free, err := testkit.Addresses(2 * nodes)
	if err != nil {
		t.Fatal(err)
	}
	return func() string { a := free[0]; free = free[1:]; return a }
}

// small mounts a file system of so many MiB.
func small(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		testkit.SkipFault(t, "disk full", fmt.Errorf("mount a tmpfs: %w", err))
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fillUp leaves so many MiB of a file system free.
func fillUp(t *testing.T, dir string, left int64) {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(dir, "ballast")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := int64(s.Bavail)*s.Bsize - left<<20; n > 0 {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			t.Fatal(err)
		}
	}
}

func freeAgain(t *testing.T, dir string) {
	t.Helper()
	ballast, err := filepath.Glob(filepath.Join(dir, "ballast*"))
	if err != nil || len(ballast) == 0 {
		t.Fatalf("%q, %v", ballast, err)
	}
	for _, path := range ballast {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// behind has RocksDB compact so often, and into files so small, that a few writers are
// faster.
const behind = `
[CFOptions "default"]
write_buffer_size=1M
level0_file_num_compaction_trigger=2
level0_slowdown_writes_trigger=2
level0_stop_writes_trigger=4
max_bytes_for_level_base=256K
target_file_size_base=256K
`

func causesOfStorage(t *testing.T, fired map[string]bool) {
	// The disk of this machine may be full for other reasons.
	next, dir, disk := addressesOf(t, 3), small(t, 1024), small(t, 256)
	ini := filepath.Join(dir, "behind.ini")
	if err := os.WriteFile(ini, []byte(behind), 0o600); err != nil {
		t.Fatal(err)
	}
	full := scraped.NewNode(disk, "full", next(), next(), "--disk-reserve", "16MiB")
	slow := scraped.NewNode(dir, "slow", next(), next(), "--db-engine-ini", ini)
	damaged := scraped.NewNode(dir, "damaged", next(), next(), "--db-engine-ini", ini)
	w := alone(t, fired, full, slow, damaged)

	w.cause(t, "the disk is 90 % full", []string{"DKVDiskFull"}, func() { fillUp(t, disk, 26) }, func() { freeAgain(t, disk) })
	w.cause(t, "less than disk-reserve is free", []string{"DKVWritesRefused"}, func() { fillUp(t, disk, 8) }, func() { freeAgain(t, disk) })

	var stop context.CancelFunc
	w.cause(t, "more is written than RocksDB can compact", []string{"DKVWritesStalled", "DKVCompactionBehind"}, func() {
		stop = overload(t, slow.GRPC)
	}, func() { stop() })

	writeFiles(t, damaged.GRPC)
	damaged.End(syscall.SIGTERM)
	good := filepath.Join(dir, "damaged")
	if err := os.CopyFS(filepath.Join(dir, "kept"), os.DirFS(good)); err != nil {
		t.Fatal(err)
	}
	damaged.Start(t)
	damaged.Await(t)
	w.cause(t, "a sorted file has a damaged block", []string{"DKVDataCorrupt"}, func() {
		damaged.End(syscall.SIGTERM)
		damage(t, good)
		damaged.Start(t)
		damaged.Await(t)
		client := serverpb.NewDKVClient(scraped.Dial(t, damaged.GRPC))
		for i := range 300 {
			_, _ = client.Get(t.Context(), &serverpb.GetRequest{Key: fmt.Appendf(nil, "key-%03d", i)})
		}
	}, func() {
		damaged.End(syscall.SIGTERM)
		if err := os.RemoveAll(good); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "kept"), good); err != nil {
			t.Fatal(err)
		}
		damaged.Start(t)
		damaged.Await(t)
	})
}

// overload writes large values with random keys until it is stopped.
func overload(t *testing.T, address string) (stop context.CancelFunc) {
	ctx, stop := context.WithCancel(t.Context())
	value := make([]byte, 64<<10)
	_, _ = rand.Read(value)
	client := serverpb.NewDKVClient(scraped.Dial(t, address))
	for range 8 {
		scraped.Forever(t, func(context.Context, int) {
			key, _ := rand.Int(rand.Reader, big.NewInt(1000))
			if ctx.Err() == nil {
				_, _ = client.Put(ctx, &serverpb.PutRequest{Key: []byte(key.String()), Value: value})
			}
		})
	}
	return stop
}

// writeFiles writes more than a memtable takes, so that there are sorted files.
func writeFiles(t *testing.T, address string) {
	t.Helper()
	client := serverpb.NewDKVClient(scraped.Dial(t, address))
	for i := range 300 {
		value := make([]byte, 10_000)
		_, _ = rand.Read(value)
		if _, err := client.Put(t.Context(), &serverpb.PutRequest{Key: fmt.Appendf(nil, "key-%03d", i), Value: value}); err != nil {
			t.Fatal(err)
		}
	}
}

// damage flips bits in the first half of each large sorted file, where its data is.
func damage(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".sst") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) < 100_000 {
			return err
		}
		files++
		for i := 1000; i < len(b)/2; i += 1000 {
			b[i] ^= 0xff
		}
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files damaged, %v", files, err)
	}
}
