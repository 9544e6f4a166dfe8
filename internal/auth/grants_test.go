package auth

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// carried is an identity of a JWT.
func carried() *Identity {
	return &Identity{Kind: Named, Name: "a@b", Carried: true, Expires: time.Unix(1900000000, 0), Grants: []Grant{
		{Role: Read, Databases: []string{"orders", "d2"}, Prefixes: [][]byte{[]byte("eu/"), {0xff, 0}}},
		{Role: Admin},
	}}
}

func TestGrantsTravel(t *testing.T) {
	for _, i := range []*Identity{carried(), {Kind: Named, Name: "n", Carried: true}} {
		text, err := EncodeGrants(i)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeGrants(i.Name, text)
		if err != nil || !reflect.DeepEqual(got, i) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestGrantsOfOtherFormsAreRejected(t *testing.T) {
	text, err := EncodeGrants(carried())
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", "!", text + "A", text[:len(text)-1], text[1:], "Ag" + text[2:], strings.Repeat("A", MaxEncodedGrants+1)} {
		if i, err := DecodeGrants("n", wrong); err == nil {
			t.Errorf("%q is read as %+v", wrong, i)
		}
	}
	if _, err := DecodeGrants("a\nb", text); err == nil {
		t.Error("a name with a line break is accepted")
	}
	large := carried()
	large.Grants[0].Prefixes[0] = make([]byte, MaxEncodedGrants)
	if _, err := EncodeGrants(large); err == nil {
		t.Error("grants that no node reads are written")
	}
}

func TestAnyGrantsTravel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := &Identity{Kind: Named, Name: "n", Carried: true}
		if rapid.Bool().Draw(t, "ends") {
			i.Expires = time.Unix(rapid.Int64Range(1, 1<<39).Draw(t, "end"), 0)
		}
		for range rapid.IntRange(0, 4).Draw(t, "grants") {
			g := Grant{Role: rapid.SampledFrom(granted).Draw(t, "role")}
			for range rapid.IntRange(0, 3).Draw(t, "databases") {
				g.Databases = append(g.Databases, rapid.StringN(1, 20, -1).Draw(t, "database"))
			}
			if g.Role == Read || g.Role == Write || g.Role == Watch {
				for range rapid.IntRange(0, 3).Draw(t, "prefixes") {
					g.Prefixes = append(g.Prefixes, rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "prefix"))
				}
			}
			i.Grants = append(i.Grants, g)
		}
		text, err := EncodeGrants(i)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeGrants("n", text); err != nil || !reflect.DeepEqual(got, i) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

func FuzzDecodeGrants(f *testing.F) {
	text, _ := EncodeGrants(carried())
	f.Add(text)
	f.Add("AQAA")
	f.Add("AQD_____Dw")
	f.Fuzz(func(t *testing.T, text string) {
		i, err := DecodeGrants("n", text)
		if err != nil {
			return
		}
		for _, g := range i.Grants {
			if err := g.Check(); err != nil {
				t.Errorf("%+v: %v", g, err)
			}
		}
		if again, err := EncodeGrants(i); err != nil || again != text {
			t.Errorf("%q is written as %q: %v", text, again, err)
		}
	})
}
