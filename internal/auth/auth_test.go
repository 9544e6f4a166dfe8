package auth

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

func TestCovers(t *testing.T) {
	span := func(start, end string) Span { return Span{[]byte(start), []byte(end)} }
	from := func(start string) Span { return Span{Start: []byte(start)} }
	for _, c := range []struct {
		name     string
		prefixes []string
		span     Span
		want     bool
	}{
		{"a key with the prefix", []string{"eu/"}, Key([]byte("eu/1")), true},
		{"the prefix itself as a key", []string{"eu/"}, Key([]byte("eu/")), true},
		{"a prefix of the prefix as a key", []string{"eu/"}, Key([]byte("eu")), false},
		{"the key before the prefix", []string{"eu/"}, Key([]byte("eu.\xff\xff")), false},
		{"the successor of the prefix as a key", []string{"eu/"}, Key([]byte("eu0")), false},
		{"the last keys of the prefix", []string{"eu/"}, Key([]byte("eu/\xff\xff\xff")), true},
		{"the empty key", []string{"eu/"}, Key(nil), false},
		{"the empty key without prefixes", nil, Key(nil), true},
		{"all of the prefix", []string{"eu/"}, Prefix([]byte("eu/")), true},
		{"a longer prefix", []string{"eu/"}, Prefix([]byte("eu/1")), true},
		{"a shorter prefix", []string{"eu/"}, Prefix([]byte("eu")), false},
		{"the empty prefix", []string{"eu/"}, Prefix(nil), false},
		{"a range that ends at the successor", []string{"eu/"}, span("eu/a", "eu0"), true},
		{"a range that ends behind the successor", []string{"eu/"}, span("eu/a", "eu0\x00"), false},
		{"a range that begins before the prefix", []string{"eu/"}, span("eu", "eu/a"), false},
		{"a range without an end", []string{"eu/"}, from("eu/"), false},
		{"a range without bounds", []string{"eu/"}, Span{}, false},
		{"a range without bounds and no prefixes", nil, Span{}, true},
		{"a range over two prefixes that touch", []string{"a", "b"}, span("a", "c"), false},
		{"a range in the second prefix", []string{"a", "b"}, span("b", "c"), true},
		{"a prefix without a successor, all of it", []string{"\xff"}, Prefix([]byte("\xff")), true},
		{"a prefix without a successor, from a key on", []string{"\xff"}, from("\xff\x01"), true},
		{"a prefix without a successor, from before it", []string{"\xff\xff"}, from("\xff\xfe"), false},
		{"a prefix that ends with 0xff", []string{"a\xff"}, span("a\xff", "b"), true},
		{"behind a prefix that ends with 0xff", []string{"a\xff"}, span("a\xff", "b\x00"), false},
		{"no range of such a prefix ends with nil", []string{"a\xff"}, from("a\xff"), false},
	} {
		i := &Identity{Kind: Named, Grants: []Grant{{Role: Read}}}
		for _, p := range c.prefixes {
			i.Grants[0].Prefixes = append(i.Grants[0].Prefixes, []byte(p))
		}
		if got := i.Covers(Read, "db", c.span); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		if i.Covers(Write, "db", c.span) {
			t.Errorf("%s: read gives write", c.name)
		}
	}
}

func TestRolesAndDatabases(t *testing.T) {
	all := []Role{Read, Write, Watch, Replication, Admin, Node}
	for _, c := range []struct {
		grant Grant
		gives []Role
	}{
		{Grant{Role: Read}, []Role{Read}},
		{Grant{Role: Write}, []Role{Write}},
		{Grant{Role: Watch}, []Role{Watch}},
		{Grant{Role: Replication}, []Role{Replication}},
		{Grant{Role: Admin}, []Role{Read, Write, Watch, Replication, Admin}},
	} {
		c.grant.Databases = []string{"orders"}
		i := &Identity{Kind: Named, Grants: []Grant{c.grant}}
		for _, r := range all {
			want := false
			for _, g := range c.gives {
				want = want || g == r
			}
			if i.Allows(r, "orders") != want || i.Covers(r, "orders", Span{}) != want {
				t.Errorf("a grant of %s and a call of %s", c.grant.Role, r)
			}
			if i.Allows(r, "other") || i.Covers(r, "other", Key([]byte("k"))) {
				t.Errorf("a grant of %s for one database is one for another", c.grant.Role)
			}
			for _, kind := range []Kind{Anonymous, Named} {
				if (&Identity{Kind: kind}).Allows(r, "orders") {
					t.Errorf("%s without grants may %s", kind, r)
				}
			}
			for _, kind := range []Kind{OfNode, Open} {
				if !(&Identity{Kind: kind}).Covers(r, "orders", Span{}) {
					t.Errorf("%s may not %s", kind, r)
				}
			}
		}
	}
}

// TestCoversAgreesWithEveryKey compares Covers with the keys of a span one by one. Bounds and
// prefixes have up to three bytes of a few letters. Keys are longer, and also have the letter
// behind each of those, so that there is a key wherever a span reaches beyond a prefix.
func TestCoversAgreesWithEveryKey(t *testing.T) {
	letters := []byte{0, 1, 'a', 0xfe, 0xff}
	keys := [][]byte{{}}
	for at := 0; len(keys[at]) < 4; at++ {
		for _, l := range []byte{0, 1, 2, 'a', 'b', 0xfe, 0xff} {
			keys = append(keys, append(bytes.Clone(keys[at]), l))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := func(least int, name string) []byte {
			return rapid.SliceOfN(rapid.SampledFrom(letters), least, 3).Draw(t, name)
		}
		var g Grant
		g.Role = Read
		for range rapid.IntRange(1, 2).Draw(t, "prefixes") {
			g.Prefixes = append(g.Prefixes, text(1, "prefix"))
		}
		i := &Identity{Kind: Named, Grants: []Grant{g}}
		s := Span{Start: text(0, "start")}
		if rapid.Bool().Draw(t, "bounded") {
			s.End = text(1, "end")
		}
		one := make([]bool, len(g.Prefixes)) // all keys of the span have the prefix
		for n := range one {
			one[n] = true
		}
		for _, k := range keys {
			if bytes.Compare(k, s.Start) < 0 || s.End != nil && bytes.Compare(k, s.End) >= 0 {
				continue
			}
			for n, p := range g.Prefixes {
				one[n] = one[n] && bytes.HasPrefix(k, p)
			}
			want := bytes.HasPrefix(k, g.Prefixes[0]) || bytes.HasPrefix(k, g.Prefixes[len(g.Prefixes)-1])
			if i.Covers(Read, "d", Key(k)) != want || i.CoversKey(Read, "d", k) != want {
				t.Fatalf("the key %q and the prefixes %q", k, g.Prefixes)
			}
		}
		want := false
		for _, o := range one {
			want = want || o
		}
		if got := i.Covers(Read, "d", s); got && !want {
			t.Fatalf("%q is covered by %q", s, g.Prefixes)
		} else if want && !got && (s.End == nil || bytes.Compare(s.Start, s.End) < 0) {
			t.Fatalf("%q is not covered by %q", s, g.Prefixes)
		}
	})
}
