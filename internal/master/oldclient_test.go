package master

import (
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dkvdb/dkv/internal/master/mastertest"
)

// The tests of this file speak as the clients in the field do: they encode the
// fields that those know, by number, and look at no others. They share no code
// with the generated messages of this repository.

// raw is a codec of messages that are encoded already.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = append([]byte{}, data...); return nil }
func (raw) Name() string                       { return "proto" }

// field is one field of a message: a number, and bytes or an integer.
type field struct {
	num protowire.Number
	val any
}

func encode(fields ...field) []byte {
	out := []byte{}
	for _, f := range fields {
		switch v := f.val.(type) {
		case string:
			out = protowire.AppendTag(out, f.num, protowire.BytesType)
			out = protowire.AppendString(out, v)
		case []byte:
			out = protowire.AppendTag(out, f.num, protowire.BytesType)
			out = protowire.AppendBytes(out, v)
		case int:
			out = protowire.AppendTag(out, f.num, protowire.VarintType)
			out = protowire.AppendVarint(out, uint64(v))
		}
	}
	return out
}

// message holds the fields below 100 of a decoded message, in order.
type message map[protowire.Number][]any

func decode(t *testing.T, p []byte) message {
	t.Helper()
	m := message{}
	for len(p) > 0 {
		num, typ, n := protowire.ConsumeTag(p)
		if n < 0 {
			t.Fatalf("malformed message %x", p)
		}
		p = p[n:]
		var v any
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(p)
		case protowire.BytesType:
			v, n = protowire.ConsumeBytes(p)
		default:
			n = protowire.ConsumeFieldValue(num, typ, p)
		}
		if n < 0 {
			t.Fatalf("malformed message %x", p)
		}
		p = p[n:]
		if num < 100 {
			m[num] = append(m[num], v)
		}
	}
	return m
}

// bytes returns a field's bytes; nil if it is absent.
func (m message) bytes(num protowire.Number) string {
	if len(m[num]) == 0 {
		return ""
	}
	return string(m[num][0].([]byte))
}

func (m message) number(num protowire.Number) uint64 {
	if len(m[num]) == 0 {
		return 0
	}
	return m[num][0].(uint64)
}

// call invokes a method of the DKV package.
func (r *rig) call(method string, fields ...field) message {
	r.T.Helper()
	req, resp := encode(fields...), []byte{}
	if err := r.Conn.Invoke(r.T.Context(), "/dkv.serverpb."+method, &req, &resp, grpc.ForceCodec(raw{})); err != nil {
		r.T.Fatalf("%s: %v", method, err)
	}
	return decode(r.T, resp)
}

// wantSuccess checks the status field, number 1: it is there, and its code is 0.
func (r *rig) wantSuccess(m message) {
	r.T.Helper()
	if len(m[1]) != 1 {
		r.T.Fatalf("no status in %v", m)
	}
	if s := decode(r.T, m[1][0].([]byte)); s.number(1) != 0 {
		r.T.Errorf("status %v", s)
	}
}

func TestOldClientPutGetDelete(t *testing.T) {
	r := newRig(t)
	r.wantSuccess(r.call("DKV/Put", field{1, "foo"}, field{2, "bar"}))
	m := r.call("DKV/Get", field{1, "foo"})
	r.wantSuccess(m)
	if m.bytes(2) != "bar" {
		t.Errorf("value %q", m.bytes(2))
	}
	m = r.call("DKV/Get", field{1, "foo"}, field{2, 1}) // linearizable
	if m.bytes(2) != "bar" {
		t.Errorf("linearizable value %q", m.bytes(2))
	}
	r.wantSuccess(r.call("DKV/Delete", field{1, "foo"}))
	r.wantSuccess(r.call("DKV/Delete", field{1, "never there"}))
	m = r.call("DKV/Get", field{1, "foo"})
	r.wantSuccess(m) // a missing key is no error
	if m.bytes(2) != "" {
		t.Errorf("value of a deleted key %q", m.bytes(2))
	}
}

func TestOldClientExpiry(t *testing.T) {
	r := newRig(t)
	r.wantSuccess(r.call("DKV/Put", field{1, "k"}, field{2, "v"}, field{3, mastertest.Epoch + 10}))
	if got := r.call("DKV/Get", field{1, "k"}).bytes(2); got != "v" {
		t.Errorf("value %q", got)
	}
	r.Sleep(10)
	m := r.call("DKV/Get", field{1, "k"})
	r.wantSuccess(m)
	if m.bytes(2) != "" {
		t.Errorf("value of an expired key %q", m.bytes(2))
	}
	// A put whose time has passed is accepted, and leaves the key absent.
	r.call("DKV/Put", field{1, "k2"}, field{2, "v"})
	r.wantSuccess(r.call("DKV/Put", field{1, "k2"}, field{2, "w"}, field{3, mastertest.Epoch - 1}))
	if got := r.call("DKV/Get", field{1, "k2"}).bytes(2); got != "" {
		t.Errorf("value %q", got)
	}
}

func TestOldClientMultiPutMultiGet(t *testing.T) {
	r := newRig(t)
	r.wantSuccess(r.call("DKV/MultiPut",
		field{1, encode(field{1, "a"}, field{2, "1"})},
		field{1, encode(field{1, "b"}, field{2, "2"}, field{3, mastertest.Epoch + 10})},
		field{1, encode(field{1, "c"}, field{2, "3"})}))
	m := r.call("DKV/MultiGet", field{1, "c"}, field{1, "nothing"}, field{1, "b"}, field{1, "c"})
	r.wantSuccess(m)
	want := []struct {
		key, value string
		expire     uint64
	}{{"c", "3", 0}, {"b", "2", mastertest.Epoch + 10}, {"c", "3", 0}} // what exists, in the order of the request
	if len(m[2]) != len(want) {
		t.Fatalf("%d pairs, want %d", len(m[2]), len(want))
	}
	for i, w := range want {
		p := decode(t, m[2][i].([]byte))
		if p.bytes(1) != w.key || p.bytes(2) != w.value || p.number(3) != w.expire {
			t.Errorf("pair %d: %v", i, p)
		}
	}
}

func TestOldClientCompareAndSet(t *testing.T) {
	r := newRig(t)
	cas := func(key, old, new string, more ...field) bool {
		t.Helper()
		m := r.call("DKV/CompareAndSet", append([]field{{1, key}, {2, old}, {3, new}}, more...)...)
		r.wantSuccess(m)
		return m.number(2) == 1
	}
	for i, step := range []struct {
		old, new string
		want     bool
	}{
		{"", "1", true},   // absent: created
		{"", "2", false},  // there
		{"x", "2", false}, // another value; no error
		{"1", "2", true},
		{"2", "", true}, // an empty value
		{"", "3", true}, // counts as absent
		{"3", "3", true},
	} {
		if got := cas("k", step.old, step.new); got != step.want {
			t.Errorf("step %d: updated %v, want %v", i, got, step.want)
		}
	}
	if cas("none", "x", "y") {
		t.Error("an absent key was updated although a value was expected")
	}
	if !cas("brief", "", "v", field{4, mastertest.Epoch + 10}) {
		t.Error("not created")
	}
	r.Sleep(11)
	if cas("brief", "v", "w") {
		t.Error("an expired value was compared with")
	}
	if !cas("brief", "", "w") {
		t.Error("not created where a key has expired")
	}
}

func TestOldClientIterate(t *testing.T) {
	r := newRig(t)
	for _, k := range []string{"b", "a1", "a3", "a2", "c"} {
		r.call("DKV/Put", field{1, k}, field{2, "v" + k})
	}
	iterate := func(fields ...field) (keys []string) {
		t.Helper()
		stream, err := r.Conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true},
			"/dkv.serverpb.DKV/Iterate", grpc.ForceCodec(raw{}))
		if err != nil {
			t.Fatal(err)
		}
		req := encode(fields...)
		if err := errors.Join(stream.SendMsg(&req), stream.CloseSend()); err != nil {
			t.Fatal(err)
		}
		for {
			var resp []byte
			err := stream.RecvMsg(&resp)
			if errors.Is(err, io.EOF) {
				return keys
			}
			if err != nil {
				t.Fatal(err)
			}
			m := decode(t, resp)
			r.wantSuccess(m)
			if m.bytes(3) != "v"+m.bytes(2) {
				t.Errorf("pair %q %q", m.bytes(2), m.bytes(3))
			}
			keys = append(keys, m.bytes(2))
		}
	}
	wantStrings(t, iterate(), "a1", "a2", "a3", "b", "c")
	wantStrings(t, iterate(field{1, "a"}), "a1", "a2", "a3")
	wantStrings(t, iterate(field{1, "a"}, field{2, "a2"}), "a2", "a3")
	wantStrings(t, iterate(field{2, "a3"}), "a3", "b", "c")
	wantStrings(t, iterate(field{1, "x"}))
}

func TestOldClientGetChanges(t *testing.T) {
	r := newRig(t)
	r.call("DKV/Put", field{1, "a"}, field{2, "1"}, field{3, mastertest.Epoch + 10})
	r.call("DKV/CompareAndSet", field{1, "a"}, field{2, "other"}, field{3, "2"}) // no effect
	r.call("DKV/Delete", field{1, "a"})
	m := r.call("DKVReplication/GetChanges", field{1, 1}, field{2, 10})
	r.wantSuccess(m)
	if m.number(2) != 3 || m.number(3) != 2 || len(m[4]) != 2 {
		t.Fatalf("newest %d, %d changes, %d records", m.number(2), m.number(3), len(m[4]))
	}
	first, second := decode(t, m[4][0].([]byte)), decode(t, m[4][1].([]byte))
	if first.number(2) != 1 || first.number(3) != 1 || second.number(2) != 3 || second.number(3) != 1 {
		t.Errorf("records %v, %v", first, second)
	}
	trxn := decode(t, first[4][0].([]byte))
	if trxn.number(1) != 1 || trxn.bytes(2) != "a" || trxn.bytes(3) != "1" || trxn.number(4) != mastertest.Epoch+10 {
		t.Errorf("put: %v", trxn)
	}
	trxn = decode(t, second[4][0].([]byte))
	if trxn.number(1) != 2 || trxn.bytes(2) != "a" {
		t.Errorf("delete: %v", trxn)
	}
}

func TestOldClientAdmin(t *testing.T) {
	r := newRig(t)
	r.call("DKV/Put", field{1, "a"}, field{2, "1"})
	// Backup and Restore return a bare Status: code 0 is its absence.
	if m := r.call("DKVBackupRestore/Backup", field{1, "b1"}); len(m) != 0 {
		t.Errorf("backup: %v", m)
	}
	r.call("DKV/Put", field{1, "a"}, field{2, "2"})
	if m := r.call("DKVBackupRestore/Restore", field{1, "b1"}); len(m) != 0 {
		t.Errorf("restore: %v", m)
	}
	if got := r.call("DKV/Get", field{1, "a"}).bytes(2); got != "1" {
		t.Errorf("value %q", got)
	}
	m := r.call("DKVCluster/ListNodes")
	r.wantSuccess(m)
	entry := decode(t, m[3][0].([]byte))
	node := decode(t, entry[2][0].([]byte))
	if m.number(2) != 1 || entry.number(1) != 1 || node.bytes(1) != "http://10.0.0.1:8080" || node.number(2) != 1 || node.number(3) != 0 {
		t.Errorf("nodes: leader %d, %v", m.number(2), node)
	}
}

func wantStrings(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%q, want %q", got, want)
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%q, want %q", got, want)
			return
		}
	}
}
