package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dkvdb/dkv/internal/config"
)

// TestDataIsOpenedAgainWithTheKeyOfTheStart, from either file.
func TestDataIsOpenedAgainWithTheKeyOfTheStart(t *testing.T) {
	const one, other = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	dir := t.TempDir()
	cfg := &config.Storage{EncryptionKeyFile: filepath.Join(dir, "key")}
	write := func(name, key string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("key", one)
	e := &Engines{cfg: cfg}
	if err := e.Reopens(); err != nil {
		t.Errorf("without a key at the start: %v", err)
	}
	var err error
	if e.key, _, err = readKeys(cfg); err != nil {
		t.Fatal(err)
	}
	if err := e.Reopens(); err != nil {
		t.Error(err)
	}
	write("key", other)
	if e.Reopens() == nil {
		t.Error("another key")
	}
	cfg.PreviousKeyFile = filepath.Join(dir, "previous")
	write("previous", one)
	if err := e.Reopens(); err != nil {
		t.Errorf("replaced: %v", err)
	}
	if err := os.Remove(cfg.EncryptionKeyFile); err != nil {
		t.Fatal(err)
	}
	if e.Reopens() == nil {
		t.Error("the file is gone")
	}
}
