package changelog

import (
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// A record with a request has bytes that never change, and the total of one without.
func TestRecordWithARequest(t *testing.T) {
	engine, err := memory.Open(memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	request := kv.ChangeRequest{ID: kv.RequestID{Client: 0x0102030405060708, Sequence: 300, Acked: 7}, Fingerprint: 0x1112131415161718, Counter: -3}
	change := kv.Change{Index: 5, Clock: 9, Mutations: []kv.Mutation{{Key: []byte("a"), Value: []byte("v")}}, Request: &request}
	plain := change
	plain.Request = nil
	var b, discarded storage.Batch
	var w Writer
	with := w.Append(&b, change, 100)
	w.Flush(&b)
	without := w.Append(&discarded, plain, 100)
	w.Flush(&discarded)
	if with != without {
		t.Errorf("a request adds %d to the total", with-without)
	}
	if err := engine.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	raw, _, _ := engine.Get(storage.Changelog, Key(5))
	if got, want := hex.EncodeToString(raw), "02"+"09"+"72"+"0807060504030201"+"ac02"+"07"+"1817161514131211"+"00"+"05"+"010001610176"; got != want {
		t.Errorf("stored as %s, want %s", got, want)
	}
	changes, err := Scan(engine, 1, 0, math.MaxInt)
	if err != nil || len(changes) != 1 || !reflect.DeepEqual(changes[0], change) {
		t.Errorf("read %+v, %v", changes, err)
	}
	if Digest(&change) != Digest(&plain) {
		t.Error("the digest depends on the request")
	}
	for n := range len(raw) - 6 {
		if _, err := decode(nil, Key(5), raw[:n]); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// A request takes no more than is counted for it.
func TestRequestBytes(t *testing.T) {
	most := kv.ChangeRequest{
		ID: kv.RequestID{Client: math.MaxUint64, Sequence: math.MaxUint64, Acked: math.MaxUint64}, Fingerprint: math.MaxUint64,
		Code: math.MaxUint8, Counter: math.MinInt64,
	}
	if n := len(appendRequest(nil, &most)); n > RequestBytes {
		t.Errorf("%d bytes", n)
	}
}
