package backup

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
)

// FuzzManifest verifies and extracts a backup with any manifest. Whatever it says, no file
// outside the destination is written, and each error says what is wrong.
func FuzzManifest(f *testing.F) {
	for _, m := range []Manifest{
		{Format: 1, Info: Info{Engine: "badger"}, Files: []File{{Name: "a", Size: 1, SHA256: "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}}},
		{Format: 2, Files: []File{{Name: "../outside"}}},
		{Format: 2, Files: []File{{Name: "/etc/passwd"}, {Name: "a"}, {Name: "a"}}},
		{Format: 2, Files: []File{{Name: "b/c", Size: -1}}},
		{Format: 1 << 62},
	} {
		raw, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"format": 1, "files": [{"name": "\u0000"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		root := t.TempDir()
		dir, dst := filepath.Join(root, "backup"), filepath.Join(root, "dst")
		for _, err := range []error{
			os.MkdirAll(DataDir(dir), 0o700),
			os.WriteFile(filepath.Join(dir, manifestFile), raw, 0o600),
			os.WriteFile(filepath.Join(DataDir(dir), "a"), []byte("a"), 0o600),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		m, err := Verify(t.Context(), dir)
		extracted := Extract(t.Context(), dir, dst)
		if (err == nil) != (extracted == nil) {
			t.Errorf("Verify: %v, but Extract: %v", err, extracted)
		}
		var known *kv.Error
		if err != nil && !errors.As(err, &known) {
			t.Errorf("an error of no kind: %v", err)
		}
		if err == nil && (len(m.Files) != 1 || m.Bytes() != 1) {
			t.Errorf("a backup of one file passes as %+v", m.Files)
		}
		entries, err := os.ReadDir(root)
		if err != nil || len(entries) != 2 {
			t.Errorf("beside the backup and the destination there is something else: %v, %v", entries, err)
		}
	})
}
