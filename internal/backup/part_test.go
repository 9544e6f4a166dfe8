package backup

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
)

// TestOwnBackups: what another database, or another vBucket, has had is no backup of this one.
func TestOwnBackups(t *testing.T) {
	for _, c := range []struct{ database, vBucket, want string }{
		{"db", "default", ""},
		{"orders", "default", `is of database "db", and the one here is "orders"`},
		{"db", "other", `is of vBucket "default", and the one here is "other"`},
	} {
		p := Part{"b1", info}
		err := p.Own(c.database, c.vBucket)
		if c.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if kv.KindOf(err) != kv.Precondition || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "-restore -force") {
			t.Errorf("%v; want %q", err, c.want)
		}
	}
}

// TestPartsOfOneBackup: parts of two backups are told apart by the name of their set, and those of
// earlier releases, which have none, by what one node never changes within a backup.
func TestPartsOfOneBackup(t *testing.T) {
	monday, tuesday := SetOf(InSet(t.Context(), "/b/monday")), SetOf(InSet(t.Context(), "/b/tuesday"))
	part := func(set string, change ...func(*Info)) Part {
		p := Part{"/b/mixed/0", info}
		p.Set = set
		for _, c := range change {
			c(&p.Info)
		}
		return p
	}
	other := func(i *Info) { i.Database = "orders" }
	for name, c := range map[string]struct {
		parts []Part
		names []string // in the refusal; nil for none
	}{
		"of one":                       {[]Part{part(monday), part(monday)}, nil},
		"the only one":                 {[]Part{part("")}, nil},
		"none":                         {nil, nil},
		"of an earlier release":        {[]Part{part(""), part("")}, nil},
		"of two":                       {[]Part{part(monday), part(monday), part(tuesday)}, []string{"/b/mixed is mixed", monday, tuesday}},
		"of two of the same name":      {[]Part{part(monday), part(SetOf(InSet(t.Context(), "/b/monday")))}, []string{monday}},
		"one of an earlier release":    {[]Part{part(monday), part("")}, []string{monday, "without a name"}},
		"two of it, of two databases":  {[]Part{part(""), part("", other)}, []string{`"db"`, `"orders"`}},
		"two of it, of other releases": {[]Part{part(""), part("", func(i *Info) { i.Version = "v1.2.2" })}, []string{"v1.2.3", "v1.2.2"}},
	} {
		err := Together(c.parts)
		if c.names == nil && err != nil || c.names != nil && kv.KindOf(err) != kv.Precondition {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.names {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q", name, err, want)
			}
		}
	}
	if set := SetOf(context.Background()); set != "" {
		t.Errorf("a backup of one vBucket is of set %q", set)
	}
}

// TestListShowsMixedBackups: they cannot be restored, and count as none.
func TestListShowsMixedBackups(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"0", "1"} {
		i, dir := info, filepath.Join(root, "mixed", name)
		i.VBucket, i.VBuckets, i.Set = name, 2, "of-"+name
		if err := Prepare(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(t.Context(), dir, engineDir(t), i); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := List(root); err != nil || len(got) != 1 || !strings.Contains(got[0].Error, "mixed from several backups") {
		t.Errorf("%+v, %v", got, err)
	}
}
