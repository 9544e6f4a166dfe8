package rocksdb

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

// bytesRead is how many bytes this thread has read from files so far.
func bytesRead(t *testing.T) (n int64) {
	t.Helper()
	raw, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(strings.TrimSpace(string(raw)), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A bulk walk that ends soon, as that of one chunk of a snapshot, reads little of each
// file: what is read ahead takes memory, for each file and each walk at once.
func TestShortBulkWalkReadsLittle(t *testing.T) {
	o := testOptions(t.TempDir())
	o.BlockCacheBytes = 1 << 20
	e := open(t, o)
	const files, values = 3, 48
	value := make([]byte, 64<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(value) // not to be compressed; never fails
	for f := range files {
		for i := range values {
			write(t, e, false, fmt.Sprintf("%02d/%d", i, f), string(value))
		}
		if err := e.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	runtime.LockOSThread() // calls into C stay on it
	defer runtime.UnlockOSThread()
	before := bytesRead(t)
	it := e.Iterate(storage.Data, storage.Range{Bulk: true, Start: []byte("01")})
	if !it.Next() {
		t.Fatal(it.Err())
	}
	it.Close()
	if read := bytesRead(t) - before; read > 2<<20 {
		t.Errorf("the first pair of a walk over %d files takes %d bytes", files, read)
	}
}
