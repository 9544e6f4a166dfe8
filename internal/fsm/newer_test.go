package fsm

import (
	"errors"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

// wantNewer fails unless an error says that a newer release wrote what was read, and not
// that it is damaged.
func wantNewer(t *testing.T, err error, says string) {
	t.Helper()
	if !errors.Is(err, storage.ErrNewer) || errors.Is(err, storage.ErrCorrupt) || errors.Is(err, ErrBadSnapshot) {
		t.Errorf("error %v", err)
	}
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("error %q does not say %q", err, says)
	}
}

// Records of a newer release are no damage: the error says which release reads them.
func TestNewerRecords(t *testing.T) {
	for name, c := range map[string]struct{ key, value, says string }{
		"state":    {"state", "\x04what a newer release writes", "the state record has format 4, and this release reads up to 3"},
		"identity": {"identity", "2\ncluster\nhistory\nregion\n", "the identity record has format 2, and this release reads up to 1"},
		"request": {"request/\x00\x00\x00\x00\x00\x00\x00\x02", "\x02what a newer release writes",
			"a request record has format 2, and this release reads up to 1"},
		"session": {"session/\x00\x00\x00\x00\x00\x00\x00\x09", "\x02what a newer release writes", "has format 2, and this release reads up to 1"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t)
			var b storage.Batch
			b.Put(storage.Meta, []byte(c.key), []byte(c.value))
			if err := x.engine.Write(&b, true); err != nil {
				t.Fatal(err)
			}
			_, err := New(x.engine)
			wantNewer(t, err, c.says)
		})
	}
}

// A snapshot may hold records of a newer release.
func TestSnapshotOfNewerState(t *testing.T) {
	id := record(storage.Meta, "identity", Identity{Cluster: "c", History: "h"}.Append(nil))
	st := record(storage.Meta, "state", []byte("\x04what a newer release writes"))
	wantNewer(t, loadInto(openMemory(t), append(id, st...)), "the state record has format 4")
}
