package changelog_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// failer is what the checks need of a test, be it testing's or rapid's.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// log is a changelog in a memory engine.
type log struct {
	failer
	engine storage.Engine
	writer changelog.Writer
	total  uint64
}

func newLog(t failer) *log {
	t.Helper()
	e, err := memory.Open(memory.Options{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return &log{failer: t, engine: e}
}

// append adds changes in one batch, in as few records as there can be.
func (l *log) append(changes ...kv.Change) {
	l.Helper()
	var b storage.Batch
	for _, c := range changes {
		l.total = l.writer.Append(&b, c, l.total)
	}
	l.writer.Flush(&b)
	l.write(&b)
}

// each adds changes in one batch, each in a record of its own.
func (l *log) each(changes ...kv.Change) {
	l.Helper()
	for _, c := range changes {
		l.append(c)
	}
}

func (l *log) write(b *storage.Batch) {
	l.Helper()
	if err := l.engine.Write(b, false); err != nil {
		l.Fatalf("write: %v", err)
	}
}

// put stores any bytes in the changelog.
func (l *log) put(key, value []byte) {
	l.Helper()
	var b storage.Batch
	b.Put(storage.Changelog, key, value)
	l.write(&b)
}

func (l *log) scan(from kv.Index, maxChanges, maxBytes int) []kv.Change {
	l.Helper()
	changes, err := changelog.Scan(l.engine, from, maxChanges, maxBytes)
	if err != nil {
		l.Fatalf("Scan(%d): %v", from, err)
	}
	return changes
}

func (l *log) floor(ret changelog.Retention, floor, newest kv.Index, now kv.Clock) kv.Index {
	l.Helper()
	f, err := changelog.Floor(l.engine, ret, floor, newest, now)
	if err != nil {
		l.Fatalf("Floor: %v", err)
	}
	return f
}

func (l *log) size(floor kv.Index) uint64 {
	l.Helper()
	n, err := changelog.Size(l.engine, floor)
	if err != nil {
		l.Fatalf("Size(%d): %v", floor, err)
	}
	return n
}

// change is a put of one key at index, with the clock at as many seconds.
func change(index kv.Index) kv.Change {
	return kv.Change{Index: index, Clock: kv.Clock(index * 1000), Mutations: []kv.Mutation{
		{Key: []byte("key"), Value: fmt.Appendf(nil, "value%03d", index)},
	}}
}

func indexes(changes []kv.Change) []kv.Index {
	out := []kv.Index{}
	for _, c := range changes {
		out = append(out, c.Index)
	}
	return out
}

// What stands on disk must be read for ever: these bytes must not change.
func TestLayout(t *testing.T) {
	l := newLog(t)
	changes := []kv.Change{
		{Index: 300, Clock: 1000, Mutations: []kv.Mutation{{Key: []byte("a"), Value: []byte("v")}}},
		{Index: 302, Clock: 999, Mutations: []kv.Mutation{
			{Key: []byte("b"), Value: []byte("w"), ExpireTS: 300}, {Key: []byte("a"), Delete: true},
		}},
	}
	l.append(changes[0])
	l.append(changes[1])
	for i := range changes {
		changes[i].Index += 10
	}
	changes[1].Request = &kv.ChangeRequest{ID: kv.RequestID{Client: 0x0102030405060708, Sequence: 300, Acked: 7}, Fingerprint: 0x1112131415161718, Counter: -3}
	l.append(changes...)
	want := []string{
		"000000000000012c 01 e807 0e 01 00 0161 0176",
		"000000000000012e 01 e707 21 02 02 0162 ac02 0177 01 0161",
		"0000000000000138 03 02 21" +
			"00 d00f 06 00" + "02 01 0b 01 0807060504030201 ac02 07 1817161514131211 00 05" +
			"01 00 0161 0176" + "02 02 0162 ac02 0177 01 0161",
	}
	it := l.engine.Iterate(storage.Changelog, storage.Range{})
	defer it.Close()
	for i := 0; it.Next(); i++ {
		got := hex.EncodeToString(append(bytes.Clone(it.Key()), it.Value()...))
		if w := strings.ReplaceAll(want[i], " ", ""); got != w {
			t.Errorf("record %d is\n%s, want\n%s", i, got, w)
		}
	}
	if l.total != 66 {
		t.Errorf("total %d, want 66", l.total)
	}
	if got := l.scan(310, 0, math.MaxInt); !reflect.DeepEqual(got, changes) {
		t.Errorf("read %+v, want %+v", got, changes)
	}
}

func TestScan(t *testing.T) {
	l := newLog(t)
	want := []kv.Change{
		{Index: 2, Clock: 5, Mutations: []kv.Mutation{{Key: []byte("a"), Value: []byte{}}}},
		{Index: 5, Clock: 5, Mutations: []kv.Mutation{
			{Key: []byte("b"), Value: []byte("w"), ExpireTS: 300},
			{Key: []byte("a"), Delete: true},
			{Key: []byte("a"), Value: []byte("again")},
		}},
		{Index: math.MaxUint64, Clock: math.MaxUint64, Mutations: []kv.Mutation{{Key: []byte("z"), Delete: true}}},
	}
	if got := l.scan(1, 0, 1<<20); len(got) != 0 {
		t.Errorf("an empty log has %+v", got)
	}
	l.append(want...)
	for _, c := range []struct {
		from kv.Index
		max  int
		want []kv.Change
	}{
		{0, 0, want}, {1, 0, want}, {2, 0, want}, {3, 0, want[1:]}, {5, 0, want[1:]},
		{6, 0, want[2:]}, {math.MaxUint64, 0, want[2:]}, {1, 1, want[:1]}, {1, 2, want[:2]}, {1, 3, want}, {3, 1, want[1:2]},
	} {
		if got := l.scan(c.from, c.max, 1<<20); !reflect.DeepEqual(got, c.want) {
			t.Errorf("from %d, at most %d: %+v, want %+v", c.from, c.max, got, c.want)
		}
	}
}

func TestScanHoldsToItsBytes(t *testing.T) {
	l := newLog(t)
	for i := range kv.Index(10) {
		l.append(change(i + 1))
	}
	one := 0 // bytes that one of them counts for
	for one = 1; len(l.scan(1, 0, 2*one)) < 2; one++ {
	}
	if payload := len("key") + len("value001"); one < payload {
		t.Fatalf("a change of %d bytes counts for %d", payload, one)
	}
	for maxBytes := range 12 * one {
		want := min(10, max(1, maxBytes/one))
		if got := len(l.scan(1, 0, maxBytes)); got != want {
			t.Fatalf("%d changes in %d bytes, want %d", got, maxBytes, want)
		}
	}
	// The limit counts, whichever is reached first.
	if got := len(l.scan(1, 3, 1<<20)); got != 3 {
		t.Errorf("%d changes, want 3", got)
	}
	if got := len(l.scan(1, 3, 2*one)); got != 2 {
		t.Errorf("%d changes, want 2", got)
	}
}

func TestScannedChangesOwnTheirMemory(t *testing.T) {
	l := newLog(t)
	l.append(change(1), change(2))
	first := l.scan(1, 0, 1<<20)
	for _, m := range first[0].Mutations {
		clear(m.Key)
		clear(m.Value)
	}
	if got := l.scan(1, 0, 1<<20); !reflect.DeepEqual(got, []kv.Change{change(1), change(2)}) || !reflect.DeepEqual(first[1], change(2)) {
		t.Errorf("a reader changed the log: %+v", got)
	}
}

func TestSize(t *testing.T) {
	l := newLog(t)
	if n := l.size(1); n != 0 {
		t.Errorf("an empty log has %d bytes", n)
	}
	sizes := map[kv.Index]uint64{}
	for _, i := range []kv.Index{3, 4, 9} {
		before := l.total
		c := change(i)
		c.Mutations[0].Value = make([]byte, 100*i)
		l.append(c)
		sizes[i] = l.total - before
		if sizes[i] < 100*i {
			t.Errorf("change %d has %d bytes", i, sizes[i])
		}
	}
	for floor, want := range map[kv.Index]uint64{
		0: l.total, 1: l.total, 3: l.total, 4: sizes[4] + sizes[9], 5: sizes[9], 9: sizes[9], 10: 0,
	} {
		if got := l.size(floor); got != want {
			t.Errorf("%d bytes from %d on, want %d", got, floor, want)
		}
	}
}

func TestFloor(t *testing.T) {
	l := newLog(t)
	each := uint64(0)
	// Changes 2, 4, ... 20, with the clock at as many seconds.
	for i := kv.Index(2); i <= 20; i += 2 {
		l.append(change(i))
		each = max(each, l.total/(i/2))
	}
	const newest = 21
	now := kv.Clock(20_000)
	second := time.Second
	for _, c := range []struct {
		name  string
		ret   changelog.Retention
		floor kv.Index
		now   kv.Clock
		want  kv.Index
	}{
		{"no limit", changelog.Retention{}, 1, now, 1},
		{"no limit, trimmed before", changelog.Retention{}, 7, now, 7},
		{"all fit", changelog.Retention{MaxBytes: 10 * each}, 1, now, 1},
		{"one byte too many", changelog.Retention{MaxBytes: 10*each - 1}, 1, now, 3},
		{"three fit", changelog.Retention{MaxBytes: 3 * each}, 1, now, 15},
		{"almost four fit", changelog.Retention{MaxBytes: 4*each - 1}, 1, now, 15},
		{"the newest stays", changelog.Retention{MaxBytes: 1}, 1, now, 19},
		{"never back", changelog.Retention{MaxBytes: 3 * each}, 18, now, 18},
		{"all young enough", changelog.Retention{MaxAge: 18 * second}, 1, now, 1},
		{"a millisecond too old", changelog.Retention{MaxAge: 18*second - time.Millisecond}, 1, now, 3},
		{"five seconds", changelog.Retention{MaxAge: 5 * second}, 1, now, 15},
		{"the newest too old", changelog.Retention{MaxAge: second}, 1, now + 5000, 21},
		{"a clock behind the records", changelog.Retention{MaxAge: second}, 1, 0, 1},
		{"age decides", changelog.Retention{MaxBytes: 9 * each, MaxAge: 5 * second}, 1, now, 15},
		{"size decides", changelog.Retention{MaxBytes: 2 * each, MaxAge: 5 * second}, 1, now, 17},
		{"the largest limits", changelog.Retention{MaxBytes: math.MaxUint64, MaxAge: math.MaxInt64}, 1, math.MaxInt64 / 1_000_000, 1},
		{"floor behind the newest", changelog.Retention{MaxBytes: 1}, newest + 1, now, newest + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := l.floor(c.ret, c.floor, newest, c.now); got != c.want {
				t.Errorf("floor %d, want %d", got, c.want)
			}
		})
	}
	if got := newLog(t).floor(changelog.Retention{MaxBytes: 1, MaxAge: 1}, 5, 9, now); got != 5 {
		t.Errorf("an empty log has the floor %d, want 5", got)
	}
}

func TestCorruptRecords(t *testing.T) {
	good, err := hex.DecodeString("01e8070e010001610176")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct{ key, value []byte }{
		"short key":        {[]byte("1234567"), good},
		"long key":         {[]byte("123456789"), good},
		"no value":         {changelog.Key(5), nil},
		"no format":        {changelog.Key(5), append([]byte{0}, good[1:]...)},
		"no clock":         {changelog.Key(5), good[:1]},
		"clock cut short":  {changelog.Key(5), good[:2]},
		"no total":         {changelog.Key(5), good[:3]},
		"total too small":  {changelog.Key(5), []byte("\x01\xe8\x07\x0d\x01\x00\x01a\x01v")},
		"total too large":  {changelog.Key(5), append([]byte{1, 0}, bytes.Repeat([]byte{0xff}, 11)...)},
		"mutations cut":    {changelog.Key(5), good[:len(good)-1]},
		"no mutations":     {changelog.Key(5), []byte{1, 0, 8}},
		"mutation unknown": {changelog.Key(5), []byte("\x01\xe8\x07\x0e\x01\x09\x01a\x01v")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLog(t)
			l.put(c.key, c.value)
			if changes, err := changelog.Scan(l.engine, 0, 0, 1<<20); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Scan: %+v, %v", changes, err)
			}
			if strings.HasPrefix(name, "mutation") || name == "no mutations" {
				return // only Scan looks into the mutations
			}
			if n, err := changelog.Size(l.engine, 0); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Size: %d, %v", n, err)
			}
			if f, err := changelog.Floor(l.engine, changelog.Retention{MaxBytes: 1}, 0, 9, 0); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Floor: %d, %v", f, err)
			}
		})
	}
}

// Corruption in the middle is found by every read that reaches it.
func TestCorruptionInTheMiddle(t *testing.T) {
	l := newLog(t)
	for i := range kv.Index(9) {
		l.append(change(i + 1))
	}
	l.put(changelog.Key(5), []byte{1})
	if got := l.scan(1, 4, 1<<20); len(got) != 4 {
		t.Errorf("in front of it: %v", indexes(got))
	}
	if _, err := changelog.Scan(l.engine, 1, 0, 1<<20); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Scan across it: %v", err)
	}
	if _, err := changelog.Floor(l.engine, changelog.Retention{MaxBytes: 1}, 1, 9, 0); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Floor across it: %v", err)
	}
}

func TestClosedEngine(t *testing.T) {
	l := newLog(t)
	l.append(change(1))
	if err := l.engine.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := changelog.Scan(l.engine, 1, 0, 1)
	check := func() {
		t.Helper()
		if !errors.Is(err, storage.ErrClosed) {
			t.Error(err)
		}
	}
	check()
	_, err = changelog.Size(l.engine, 1)
	check()
	_, err = changelog.Floor(l.engine, changelog.Retention{MaxBytes: 1}, 1, 1, 0)
	check()
}

// A record of a newer release is no damage: it says which release reads it.
func TestNewerRecord(t *testing.T) {
	l := newLog(t)
	l.put(changelog.Key(5), []byte("\x04whatever a newer release writes"))
	_, err := changelog.Scan(l.engine, 0, 0, 1<<20)
	if !errors.Is(err, storage.ErrNewer) || errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "has format 4, and this release reads up to 3") {
		t.Errorf("error %v", err)
	}
}
