package changelog_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/storage"
)

// FuzzRecord stores any bytes as a record. What can be read of it stays the same
// when it is written again; all else is ErrCorrupt.
func FuzzRecord(f *testing.F) {
	f.Add(changelog.Key(5), []byte("\x01\xe8\x07\x0e\x01\x00\x01a\x01v"))
	f.Add(changelog.Key(1), []byte("\x01\x00\x09\x00"))
	f.Add(changelog.Key(5), []byte("\x02\x09\x0e\x08\x07\x06\x05\x04\x03\x02\x01\xac\x02\x07\x18\x17\x16\x15\x14\x13\x12\x11\x00\x05\x01\x00\x01a\x01v"))
	f.Add(changelog.Key(9), []byte("\x03\x02\x21\x00\xd0\x0f\x06\x00\x02\x01\x06\x00\x01\x00\x01a\x01v\x01\x00\x01b\x01w"))
	f.Add([]byte("short"), []byte{})
	f.Add([]byte{0}, []byte("\x01\x00\x09\x00"))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if bytes.Compare(key, changelog.Key(0)) < 0 {
			return // before any index, which no one reads
		}
		l := newLog(t)
		l.put(key, value)
		changes, err := changelog.Scan(l.engine, 0, 0, 1<<20)
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNewer) {
				t.Fatalf("error is none of those: %v", err)
			}
			return
		}
		c := changes[len(changes)-1]
		if !bytes.Equal(changelog.Key(c.Index), key) {
			t.Fatalf("key %x became index %d", key, c.Index)
		}
		var bodies []byte
		for i := range changes {
			bodies = command.AppendMutations(bodies, changes[i].Mutations)
			if i > 0 && changes[i].Index <= changes[i-1].Index {
				t.Fatalf("change %d follows %d", changes[i].Index, changes[i-1].Index)
			}
		}
		if !bytes.HasSuffix(value, bodies) {
			t.Fatalf("%x became %+v", value, changes)
		}
		if size, err := changelog.Size(l.engine, 0); err != nil || size < 8 {
			t.Fatalf("size %d, %v", size, err)
		}
	})
}
