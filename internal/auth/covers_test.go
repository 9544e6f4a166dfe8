package auth

import "testing"

// TestCoversKeyAsCoversSpan: a single key is covered exactly if the span from it to its
// successor is.
func TestCoversKeyAsCoversSpan(t *testing.T) {
	prefixes := []string{"", "a", "a/", "ab", "\xff", "\xff\xff"}
	keys := []string{"", "a", "a/", "a/1", "a0", "ab", "b", "\xfe", "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff"}
	for _, p := range prefixes {
		id := &Identity{Kind: Named, Grants: []Grant{{Role: Read, Databases: []string{"d"}, Prefixes: [][]byte{[]byte(p)}}}}
		for _, k := range keys {
			for _, role := range []Role{Read, Write} {
				for _, database := range []string{"d", "e"} {
					got, want := id.CoversKey(role, database, []byte(k)), id.Covers(role, database, Key([]byte(k)))
					if got != want {
						t.Errorf("prefix %q, key %q, role %s of %s: %v, want %v", p, k, role, database, got, want)
					}
				}
			}
		}
	}
}

// TestCoversKeyAllocatesNothing: it is called for each request.
func TestCoversKeyAllocatesNothing(t *testing.T) {
	id := &Identity{Kind: Named, Grants: []Grant{{Role: Read, Prefixes: [][]byte{[]byte("b")}}, {Role: Read, Prefixes: [][]byte{[]byte("a/")}}}}
	key := []byte("a/1")
	if n := testing.AllocsPerRun(100, func() {
		if !id.CoversKey(Read, "d", key) {
			t.Error("not covered")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
