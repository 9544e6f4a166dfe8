package durable

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A link whose disk is not mounted is there and leads nowhere.
func TestFolderByALinkToNothing(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "absent"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, filepath.Join(link, "below")} {
		if err := MkdirAll(path); err == nil || !strings.Contains(err.Error(), "mkdir "+link+": it is a link") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
