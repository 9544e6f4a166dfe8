package promotion

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Only for a damaged record it may be necessary to give the data up: one that cannot be read may well
// be whole.
func TestRecordThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, recordFile)
	const give = "empty db-folder"
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Of(dir); err == nil || strings.Contains(err.Error(), give) || strings.Count(err.Error(), path) != 1 {
		t.Errorf("unreadable: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Of(dir); err == nil || !strings.Contains(err.Error(), give) {
		t.Errorf("damaged: %v", err)
	}
}
