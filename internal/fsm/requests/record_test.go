package requests

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// The layouts are on disk: they must never change.
func TestRecords(t *testing.T) {
	e := entry{
		name: name{0x0102030405060708, 300}, acked: 299, clock: 1_700_000_000_000, print: 0x1112131415161718,
		result: command.Result{Index: 7, Code: command.Overflow, Counter: -1},
	}
	raw := e.append(nil)
	if got, want := hex.EncodeToString(raw), "01"+"0807060504030201"+"ac02"+"ab02"+"80d095ffbc31"+"1817161514131211"+"010307"+"01"; got != want {
		t.Errorf("a result is stored as %s, want %s", got, want)
	}
	e.bytes = entryBytes(raw)
	if got, err := decodeEntry(raw); err != nil || *got != e {
		t.Errorf("decoded %+v, %v", got, err)
	}
	s := session{client: 0x0102030405060708, acked: 1, forgotten: 2, used: 3, clock: 4, lost: 5}
	key, record := appendSessionKey(nil, s.client), s.append(nil)
	want := "01" + "0000000000000001" + "0000000000000002" + "0000000000000003" + "0000000000000004" + "0000000000000005"
	if got := hex.EncodeToString(record); got != want || string(key) != "session/\x01\x02\x03\x04\x05\x06\x07\x08" {
		t.Errorf("a client is stored as %q -> %s, want %s", key, got, want)
	}
	if got, err := decodeSession(key, record); err != nil || *got != s {
		t.Errorf("decoded %+v, %v", got, err)
	}
}

func TestBadRecords(t *testing.T) {
	e := (&entry{name: name{1, 300}}).append(nil)
	s, key := (&session{client: 1}).append(nil), appendSessionKey(nil, 1)
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := range e {
		_, err := decodeEntry(e[:n])
		check(fmt.Sprintf("a result cut to %d bytes", n), err)
	}
	for n := range s {
		_, err := decodeSession(key, s[:n])
		check(fmt.Sprintf("a client cut to %d bytes", n), err)
	}
	for _, bad := range [][]byte{append([]byte{0}, e[1:]...), append(bytes.Clone(e), 0)} {
		_, err := decodeEntry(bad)
		check(fmt.Sprintf("result %x", bad), err)
	}
	for _, bad := range [][]byte{append([]byte{0}, s[1:]...), append(bytes.Clone(s), 0)} {
		_, err := decodeSession(key, bad)
		check(fmt.Sprintf("client %x", bad), err)
	}
	_, err := decodeSession(key[:12], s)
	check("a short key", err)
	for _, record := range []struct{ key, value []byte }{
		{appendSessionKey(nil, 1), []byte("\x01x")}, {appendEntryKey(nil, 1), []byte("\x01x")}, {keyLost, []byte("\x01x")},
	} {
		r := newRig(t, DefaultBounds())
		var b storage.Batch
		b.Put(storage.Meta, record.key, record.value)
		if err := r.engine.Write(&b, false); err != nil {
			t.Fatal(err)
		}
		_, err := Load(r.engine, r.bounds)
		check(string(record.key), err)
	}
}

// FuzzRecords feeds the decoders of what a table stores.
func FuzzRecords(f *testing.F) {
	f.Add((&entry{name: name{1, 2}, result: command.Result{Index: 3}}).append(nil))
	f.Add((&session{acked: 1}).append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, err := decodeEntry(p); err != nil && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNewer) {
			t.Errorf("error is neither ErrCorrupt nor ErrNewer: %v", err)
		}
		switch s, err := decodeSession(appendSessionKey(nil, 1), p); {
		case err != nil && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNewer):
			t.Errorf("error is neither ErrCorrupt nor ErrNewer: %v", err)
		case err == nil && !bytes.Equal(s.append(nil), p):
			t.Errorf("%x decodes to %+v", p, s)
		}
	})
}

// storeOld stores results as they were before there were records of clients.
func (r *rig) storeOld(requests ...kv.RequestID) {
	r.t.Helper()
	var b storage.Batch
	for _, id := range requests {
		r.index++
		e := entry{
			name: name{id.Client, id.Sequence}, acked: id.Acked, clock: r.clock,
			print: request(0, 0, 0).Fingerprint(), result: command.Result{Index: r.index},
		}
		b.Put(storage.Meta, appendEntryKey(nil, r.index), e.append(nil))
	}
	if err := r.engine.Write(&b, false); err != nil {
		r.t.Fatal(err)
	}
	r.reload()
}

// A table from before there were records of clients is read as it was meant, and
// what followed from its results stays known when they go.
func TestLoadWithoutSessions(t *testing.T) {
	r := newRig(t, DefaultBounds())
	r.storeOld(
		kv.RequestID{Client: 7, Sequence: 10, Acked: 9}, kv.RequestID{Client: 8, Sequence: 1},
		kv.RequestID{Client: 7, Sequence: 11, Acked: 3}, kv.RequestID{Client: 9, Sequence: 5},
	)
	r.entries(4)
	r.sessions(3)
	r.answered(request(7, 10, 0), 1)
	r.answered(request(8, 1, 0), 2)
	r.refused(request(7, 9, 0), command.StaleRequest)
	r.fresh(request(8, 2, 1)) // drops a result
	r.refused(request(8, 1, 0), command.StaleRequest)
	r.clock += r.age()
	r.fresh(request(10, 1, 0)) // drops the others
	r.entries(1)
	for range 2 {
		r.refused(request(7, 9, 0), command.StaleRequest)
		r.refused(request(7, 11, 0), command.TooLate)
		r.refused(request(9, 4, 0), command.TooLate)
		r.reload()
	}
}

// One from before a client had a bound comes within it, a few results a request.
func TestLoadBeyondTheBounds(t *testing.T) {
	bounds := DefaultBounds()
	bounds.ClientEntries = 10
	r := newRig(t, bounds)
	old := make([]kv.RequestID, 100)
	for i := range old {
		old[i] = kv.RequestID{Client: 7, Sequence: uint64(i) + 1}
	}
	r.storeOld(old...)
	for seq := range uint64(100) {
		r.fresh(request(7, 101+seq, 0))
	}
	r.entries(10)
	r.refused(request(7, 100, 0), command.TooLate)
}

func TestCopy(t *testing.T) {
	bounds := DefaultBounds()
	bounds.Sessions = 3
	from, to := newRig(t, bounds), newRig(t, bounds)
	from.fresh(request(6, 1, 0))
	for client := range uint64(3) {
		from.fresh(request(client+7, 1, 0))
		from.fresh(request(client+7, 2, 1))
	}
	for client := range uint64(5) {
		to.fresh(request(client+100, 1, 0))
	}
	if err := Copy(context.Background(), from.engine, to.engine); err != nil {
		t.Fatal(err)
	}
	if err := from.table.Check(to.engine); err != nil {
		t.Error(err)
	}
	if lost, err := Load(to.engine, bounds); err != nil || lost.lost == 0 {
		t.Errorf("lost %v, %v", lost, err)
	}
	empty, err := memory.Open(memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Copy(context.Background(), empty, to.engine); err != nil {
		t.Fatal(err)
	}
	if to.reload(); !to.table.Empty() || from.table.Empty() {
		t.Error("an empty table was not copied")
	}
}

// A large table is copied in several batches.
func TestCopyMuch(t *testing.T) {
	from, to := newRig(t, DefaultBounds()), newRig(t, DefaultBounds())
	from.unchecked = true
	for client := range uint64(12_000) {
		from.fresh(request(client+1, 1, 0))
	}
	writes := &counting{Engine: to.engine}
	if err := Copy(context.Background(), from.engine, writes); err != nil {
		t.Fatal(err)
	}
	if err := from.table.Check(to.engine); err != nil {
		t.Error(err)
	}
	if writes.count < 2 || writes.largest > 2*copyStep {
		t.Errorf("%d batches, the largest of %d bytes", writes.count, writes.largest)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Copy(ended, from.engine, to.engine); !errors.Is(err, context.Canceled) {
		t.Errorf("a copy that was cancelled: %v", err)
	}
}

type counting struct {
	storage.Engine
	count, largest int
}

func (c *counting) Write(b *storage.Batch, sync bool) error {
	c.count++
	c.largest = max(c.largest, b.Size())
	return c.Engine.Write(b, sync)
}
