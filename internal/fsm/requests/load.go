package requests

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Load reads the table in r.
func Load(r storage.Reader, bounds Bounds) (*Table, error) {
	t := newTable(bounds)
	if err := t.loadSessions(r); err != nil {
		return nil, err
	}
	if err := t.loadEntries(r); err != nil {
		return nil, err
	}
	byUse := make([]*session, 0, len(t.sessions))
	for _, s := range t.sessions {
		byUse = append(byUse, s)
	}
	slices.SortFunc(byUse, func(a, b *session) int {
		return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.client, b.client))
	})
	for _, s := range byUse {
		t.clients.append(s)
	}
	t.publish()
	return t, nil
}

func (t *Table) loadSessions(r storage.Reader) error {
	lost, found, err := r.Get(storage.Meta, keyLost)
	switch {
	case err != nil:
		return err
	case found && len(lost) != 8:
		return fmt.Errorf("%w: %s record", storage.ErrCorrupt, keyLost)
	case found:
		t.lost = kv.Clock(binary.BigEndian.Uint64(lost))
	}
	it := r.Iterate(storage.Meta, storage.Prefix(prefixSession))
	defer it.Close()
	for it.Next() {
		s, err := decodeSession(it.Key(), it.Value())
		if err != nil {
			return err
		}
		t.sessions[s.client] = s
	}
	return it.Err()
}

// loadEntries reads the results. If their client has no session record, an older release
// without sessions has written them, and the session is made from them.
func (t *Table) loadEntries(r storage.Reader) error {
	it := r.Iterate(storage.Meta, storage.Prefix(prefixEntry))
	defer it.Close()
	for it.Next() {
		e, err := decodeEntry(it.Value())
		if err != nil {
			return err
		}
		s := t.sessions[e.name.client]
		if s == nil {
			s = &session{client: e.name.client, derived: true}
			t.sessions[s.client] = s
		}
		if s.derived {
			s.use(e)
		}
		t.insert(e, s)
	}
	return it.Err()
}

// copyStep is how many bytes Copy collects before it writes them.
const copyStep = 1 << 20

// Copy replaces the table in to, which no Table may be loaded from, with that of from. A crash leaves
// a part of it, and the result is not durable yet.
func Copy(ctx context.Context, from storage.Reader, to storage.Engine) error {
	if err := Clear(to); err != nil {
		return err
	}
	var b storage.Batch
	for _, prefix := range Prefixes() {
		if err := copyPrefix(ctx, from, to, &b, prefix); err != nil {
			return fmt.Errorf("copy the request table: %w", err)
		}
	}
	if err := to.Write(&b, false); err != nil {
		return fmt.Errorf("copy the request table: %w", err)
	}
	return nil
}

// Prefixes returns the beginnings of the keys in storage.Meta that belong to the table.
func Prefixes() [][]byte { return [][]byte{prefixEntry, prefixSession, keyLost} }

// Owns reports whether a key in storage.Meta belongs to the table.
func Owns(key []byte) bool {
	return slices.ContainsFunc(Prefixes(), func(p []byte) bool { return bytes.HasPrefix(key, p) })
}

// Clear drops the table in an engine. No Table may be loaded from it. A crash leaves a part of it,
// and the result is not durable yet.
func Clear(engine storage.Engine) error {
	for _, prefix := range Prefixes() {
		if err := storage.Clear(engine, storage.Meta, storage.Prefix(prefix)); err != nil {
			return fmt.Errorf("clear the request table: %w", err)
		}
	}
	return nil
}

func copyPrefix(ctx context.Context, from storage.Reader, to storage.Engine, b *storage.Batch, prefix []byte) error {
	r := storage.Prefix(prefix)
	r.Bulk = true
	it := from.Iterate(storage.Meta, r)
	defer it.Close()
	for it.Next() {
		b.Put(storage.Meta, it.Key(), it.Value())
		if b.Size() < copyStep {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := to.Write(b, false); err != nil {
			return err
		}
		b.Reset()
	}
	return it.Err()
}
