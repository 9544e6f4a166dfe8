package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

func TestHostSizes(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		size                  Size
		step, apply, snapshot uint64
		streams               uint64
		inMemory              uint64
	}{
		{Size{}, 1, 16, 4, 1, 32 << 20},
		{Size{Cores: 1, Memory: gib, VBuckets: 1}, 1, 2, 4, 1, 32 << 20},
		{Size{Cores: 2, Memory: 8 * gib, VBuckets: 8}, 1, 8, 4, 1, 32 << 20},
		{Size{Cores: 5, Memory: 64 * gib, VBuckets: 100}, 2, 64, 5, 2, 32 << 20},
		{Size{Cores: 64, Memory: 8 * gib, VBuckets: 64}, 16, 64, 16, 4, 32 << 20},
		{Size{Cores: 8, Memory: 32 * gib, VBuckets: 256}, 4, 64, 8, 4, 256 << 20},
	} {
		t.Run(fmt.Sprintf("%+v", c.size), func(t *testing.T) {
			l := c.size.layout()
			if !l.valid() || l.Workers != c.step {
				t.Errorf("layout %+v", l)
			}
			e := c.size.engine(l)
			if e.ExecShards != c.step || e.ApplyShards != c.apply || e.SnapshotShards != c.snapshot {
				t.Errorf("workers %+v", e)
			}
			if got := c.size.streams(); got != c.streams {
				t.Errorf("%d connections to each host", got)
			}
			if c.size.MaxInMemory() != c.inMemory {
				t.Errorf("%d bytes in memory", c.size.MaxInMemory())
			}
		})
	}
}

func TestBadLayouts(t *testing.T) {
	for _, raw := range []string{
		"", "{}", `{"format":0,"workers":2,"logShards":2}`, `{"format":1,"workers":3,"logShards":2}`,
		`{"format":1,"workers":128,"logShards":2}`, `{"format":1,"workers":2,"logShards":0}`, `{"format":1,"workers":2,"logShards":2,"more":1}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, layoutFile), []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := loadLayout(dir, Size{}); err == nil {
			t.Errorf("%q was taken for %+v", raw, l)
		}
	}
}

// A log that a newer release laid out is no damage, whatever else its file says.
func TestNewerLayout(t *testing.T) {
	for _, raw := range []string{`{"format":3,"workers":2,"logShards":2}`, `{"format":3,"shards":[1,2]}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, layoutFile), []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadLayout(dir, Size{})
		if !errors.Is(err, storage.ErrNewer) || !strings.Contains(err.Error(), layoutFile+" has format 3, and this release reads up to 2") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
