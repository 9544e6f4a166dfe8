package history

import (
	"errors"
	"reflect"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestIdentityRecord(t *testing.T) {
	id := Identity{Cluster: kv.NewID(), History: kv.NewID()}
	if len(id.Cluster) != 32 || id.Cluster == id.History {
		t.Fatalf("ids %+v", id)
	}
	got, err := DecodeIdentity(id.Append(nil))
	if err != nil || got != id {
		t.Fatalf("decoded %+v, %v", got, err)
	}
	for _, bad := range []string{"", "1", "0\na\nb\n", "1\n\nb\n", "1\na\n\n", "1\na\nb", "1\na\nb\nc"} {
		if _, err := DecodeIdentity([]byte(bad)); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Whether a copy may go on by changes in a later history.
func TestLeads(t *testing.T) {
	promoted := []Former{{"a", 10}}
	twice := []Former{{"a", 10}, {"b", 1000}}
	for _, c := range []struct {
		history string
		at      kv.Index
		lineage []Former
		want    bool
	}{
		{"a", 9, promoted, true}, {"a", 10, promoted, true}, {"a", 11, promoted, false},
		{"x", 1, promoted, false}, {"", 0, promoted, false}, {"a", 1, nil, false},
		{"a", 10, twice, true}, {"b", 1000, twice, true}, {"b", 1001, twice, false},
		{"a", 5, []Former{{"a", 10}, {"b", 5}}, true},              // promoted before the first change of b
		{"a", 6, []Former{{"a", 10}, {"b", 5}}, false},             // which has not all of a
		{"a", 1, []Former{{"a", 0}}, false},                        // a restore
		{"a", 10, []Former{{"a", 10}, {"b", 0}}, false},            // and one after a promotion
		{"b", 10, []Former{{"a", 0}, {"b", 10}, {"c", 20}}, true},  // but not one before
		{"b", 10, []Former{{"b", 10}, {"c", 0}, {"d", 30}}, false}, // whatever follows it
	} {
		if got := Leads(c.history, c.at, c.lineage); got != c.want {
			t.Errorf("%s at %d leads to what follows %v: %v", c.history, c.at, c.lineage, got)
		}
	}
}

func TestLineageRecord(t *testing.T) {
	for record, want := range map[string][]Former{
		"": nil, "a\nb": {{"a", 0}, {"b", 0}}, "a 7\nb\n1-c 1099511627776": {{"a", 7}, {"b", 0}, {"1-c", 1 << 40}},
	} {
		if got, err := DecodeLineage([]byte(record)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v", record, got, err)
		}
		if got := AppendLineage(nil, want); string(got) != record {
			t.Errorf("written as %q, was %q", got, record)
		}
	}
	for _, bad := range []string{"a ", "a x", "a 0", "a -1", "a 7 8"} {
		if _, err := DecodeLineage([]byte(bad)); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
