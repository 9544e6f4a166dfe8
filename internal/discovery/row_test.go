package discovery

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// TestEveryFieldCounts changes each field of a row in turn: a field that comes to
// the contract later is not to be forgotten here.
func TestEveryFieldCounts(t *testing.T) {
	free := map[string]bool{"status": true, "changeNumber": true, "slaves": true, "silentQuarters": true} // compared otherwise, or not
	key := map[string]bool{"database": true, "vBucket": true, "nodeAddress": true}
	fields := new(serverpb.RegionInfo).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		name := string(field.Name())
		if key[name] {
			continue
		}
		a, b := region("db/0/a:1/dc1", leader), region("db/0/a:1/dc1", leader)
		if !sameRow(a, b) {
			t.Fatal("equal rows differ")
		}
		b.ProtoReflect().Set(field, another(t, field))
		if sameRow(a, b) != free[name] || sameRow(b, a) != free[name] {
			t.Errorf("%s: same is %v", name, sameRow(a, b))
		}
		if field.HasOptionalKeyword() { // absent is not empty
			b.ProtoReflect().Set(field, protoreflect.ValueOfString(""))
			if sameRow(a, b) {
				t.Errorf("%s: absent counts as empty", name)
			}
			a.ProtoReflect().Set(field, protoreflect.ValueOfString(""))
			if !sameRow(a, b) {
				t.Errorf("%s: equal values at two addresses differ", name)
			}
		}
	}
	a, b := region("db/0/a:1/dc1", leader), region("db/0/a:1/dc1", leader)
	b.ProtoReflect().SetUnknown(protoreflect.RawFields{0xa0, 0x3f, 1})
	if sameRow(a, b) {
		t.Error("a field of the future does not count")
	}
}

func another(t *testing.T, field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("other")
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(7)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(7)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(3)
	default:
		t.Fatalf("field %s is of a kind that this test does not know", field.Name())
		return protoreflect.Value{}
	}
}

func TestStoredRow(t *testing.T) {
	in := region("db/0/a:1/dc1", leader, term(3))
	value, err := encodeRow(in)
	if err != nil {
		t.Fatal(err)
	}
	key := keyOf(in).stored()
	if string(key) != "region/db\x000\x00a:1" {
		t.Errorf("key %q", key)
	}
	if out, err := decodeRow(key, value); err != nil || !proto.Equal(in, out) {
		t.Errorf("%v, %v", out, err)
	}
	for _, c := range []struct {
		key, value []byte
		want       string
	}{
		{key, value[:len(value)-1], "cannot be read"},
		{[]byte("region/db\x000\x00b:1"), value, "holds the row"},
	} {
		if _, err := decodeRow(c.key, c.value); kv.KindOf(err) != kv.Corrupt || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
