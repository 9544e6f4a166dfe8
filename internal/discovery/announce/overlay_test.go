package announce

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/api/serverpb"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

// TestOverlay compares with a map, and wants rows that were handed out to stay as they
// were.
func TestOverlay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rows []*serverpb.RegionInfo
		model := make(map[string]*serverpb.RegionInfo)
		for range rapid.IntRange(1, 20).Draw(t, "messages") {
			m := new(serverpb.ClusterInfoChange)
			for range rapid.IntRange(0, 5).Draw(t, "rows") {
				m.Rows = append(m.Rows, region(fmt.Sprint(rapid.IntRange(0, 12).Draw(t, "vBucket")), leader))
			}
			for range rapid.IntRange(0, 3).Draw(t, "gone") {
				m.Gone = append(m.Gone, region(fmt.Sprint(rapid.IntRange(0, 12).Draw(t, "vBucket")), 0))
			}
			for _, r := range m.GetGone() {
				delete(model, r.GetVBucket())
			}
			for _, r := range m.GetRows() {
				model[r.GetVBucket()] = r
			}
			before := slices.Clone(rows)
			next := overlay(rows, deltasOf(m))
			if !slices.Equal(rows, before) {
				t.Fatal("rows that others read were changed")
			}
			rows = next
			var want []*serverpb.RegionInfo
			for _, name := range slices.Sorted(maps.Keys(model)) {
				want = append(want, model[name])
			}
			if !slices.Equal(rows, want) {
				t.Fatalf("rows %v\nwant %v", rows, want)
			}
		}
	})
}

// TestUnorderedStart has a registry send its first rows in any order, one of them
// twice.
func TestUnorderedStart(t *testing.T) {
	f := newFakeRegistry(region("2", slave), region("0", slave), region("1", slave), region("0", leader))
	n := serve(t, f)
	d, _ := newDirectory(t, DirectoryOptions{Addresses: []string{n.addr}})
	d.until(t, "0 LEADER", "1 ACTIVE_SLAVE", "2 ACTIVE_SLAVE")
}

// many are the rows of a large registry.
func many(n int) []*serverpb.RegionInfo {
	out := make([]*serverpb.RegionInfo, n)
	for i := range out {
		out[i] = region(fmt.Sprintf("%06d", i), slave)
		out[i].NodeName, out[i].HttpAddress = "node-7", "10.0.0.7:8081"
		out[i].ClusterID, out[i].HistoryID = "0123456789abcdef", "fedcba9876543210"
	}
	return out
}

// TestCacheOfManyRows is written at a bounded rate.
func TestCacheOfManyRows(t *testing.T) {
	c := &cache{path: filepath.Join(t.TempDir(), "registry")}
	if _, err := c.load(); err != nil {
		t.Fatal(err)
	}
	rows := many(10)
	if err := c.write(rows); err != nil || c.interval() != cacheInterval {
		t.Error(c.interval(), err)
	}
	rows = many(30_000)
	if err := c.write(rows); err != nil {
		t.Fatal(err)
	}
	if rate := float64(c.size) / c.interval().Seconds(); c.size < 2*cacheRate || rate > cacheRate*1.01 {
		t.Errorf("%d bytes each %v", c.size, c.interval())
	}
	next := &cache{path: c.path}
	if _, err := next.load(); err != nil || next.interval() != c.interval() {
		t.Error(next.interval(), c.interval(), err)
	}
}

const benchRows = 100_000

// BenchmarkChange takes the change of a row among 100 000, and has the rows read.
func BenchmarkChange(b *testing.B) {
	d := OpenDirectory(DirectoryOptions{})
	rows := many(benchRows)
	d.merge(&serverpb.ClusterInfoChange{Rows: rows})
	for i := 0; b.Loop(); i++ {
		r := proto.CloneOf(rows[i%benchRows])
		r.Term++
		d.merge(&serverpb.ClusterInfoChange{Rows: []*serverpb.RegionInfo{r}})
		if len(d.Rows()) != benchRows {
			b.Fatal("rows are lost")
		}
	}
}

// BenchmarkCache looks whether 100 000 rows need to be written, of which some have new
// numbers; and writes them.
func BenchmarkCache(b *testing.B) {
	for _, c := range []struct {
		name string
		edit func(*serverpb.RegionInfo)
	}{
		{"numbers", func(r *serverpb.RegionInfo) { r.ChangeNumber++ }},
		{"news", func(r *serverpb.RegionInfo) { r.Term++ }},
	} {
		b.Run(c.name, func(b *testing.B) {
			kept := &cache{path: filepath.Join(b.TempDir(), "registry")}
			rows := many(benchRows)
			if err := kept.write(rows); err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				rows = slices.Clone(rows)
				rows[i%benchRows] = proto.CloneOf(rows[i%benchRows])
				c.edit(rows[i%benchRows])
				if err := kept.write(rows); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(kept.interval().Seconds(), "s-between")
		})
	}
}
