package filestream

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestNewerRaftSnapshot(t *testing.T) {
	for _, bad := range []string{"", "DKVfile", "DKVfile0\x00\x00\x00\x00\x00\x00\x00\x00", "DKVfile:\x00\x00\x00\x00\x00\x00\x00\x00", "DKVfale2\x00\x00\x00\x00\x00\x00\x00\x00"} {
		err := Read(t.Context(), strings.NewReader(bad), filepath.Join(t.TempDir(), "place"), func(uint64) error { return nil })
		if !errors.Is(err, chunks.ErrBadSnapshot) || errors.Is(err, storage.ErrNewer) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	place := filepath.Join(t.TempDir(), "place")
	err := Read(t.Context(), strings.NewReader("DKVfile2what a newer release writes"), place, func(uint64) error { return nil })
	if !errors.Is(err, storage.ErrNewer) || errors.Is(err, chunks.ErrBadSnapshot) || !strings.Contains(err.Error(), "has format 2, and this release reads up to 1") {
		t.Error(err)
	}
}
