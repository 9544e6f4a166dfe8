package datadir

import (
	"testing"

	"github.com/dkvdb/dkv/internal/durable"
)

// An order concerns one generation, and outlives the process.
func TestOrderConcernsOneGeneration(t *testing.T) {
	path := t.TempDir()
	open := func() (*Dir, *Generations) {
		d := mustOpen(t, path)
		g, err := d.VBucket("default")
		if err != nil {
			t.Fatal(err)
		}
		return d, g
	}
	wants := func(g *Generations, text string, ordered bool) {
		t.Helper()
		if got, is, err := g.Ordered(); err != nil || got != text || is != ordered {
			t.Errorf("ordered %q, %v, %v; want %q, %v", got, is, err, text, ordered)
		}
	}
	d, g := open()
	wants(g, "", false)
	if err := g.Order("two\nlines"); err == nil {
		t.Error("two lines were taken")
	}
	if err := g.Order("for cluster c"); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	_, g = open()
	wants(g, "for cluster c", true)
	next, err := g.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(next); err != nil {
		t.Fatal(err)
	}
	wants(g, "for cluster c", true)
	if err := g.Commit(next); err != nil {
		t.Fatal(err)
	}
	wants(g, "", false)
}
