package discovery

import (
	"slices"

	"github.com/dkvdb/dkv/api/serverpb"
)

// filter chooses rows. A part that is nil admits any value.
type filter struct{ dc, database, vBucket *string }

// filterOf returns the filter of a request. An empty part admits any value too, since not
// all clients can leave a field out.
func filterOf(r *serverpb.GetClusterInfoRequest) filter {
	return filter{dc: unlessEmpty(r.DcID), database: unlessEmpty(r.Database), vBucket: unlessEmpty(r.VBucket)}
}

func unlessEmpty(s *string) *string {
	if s == nil || *s == "" {
		return nil
	}
	return s
}

// databaseName returns the database of the filter; empty for all.
func (f filter) databaseName() string {
	if f.database == nil {
		return ""
	}
	return *f.database
}

func admits(want *string, have string) bool { return want == nil || *want == have }

func (f filter) matches(info *serverpb.RegionInfo) bool {
	return admits(f.database, info.GetDatabase()) && admits(f.vBucket, info.GetVBucket()) && admits(f.dc, info.GetDcID())
}

// groups calls use with each vBucket that the filter admits.
func (t *table) groups(f filter, use func(*group)) {
	if f.database != nil {
		if d := t.databases[*f.database]; d != nil {
			eachGroup(d.groups, f, use)
		}
		return
	}
	for _, d := range t.databases {
		eachGroup(d.groups, f, use)
	}
}

func eachGroup(groups map[string]*group, f filter, use func(*group)) {
	if f.vBucket != nil {
		if g := groups[*f.vBucket]; g != nil {
			use(g)
		}
		return
	}
	for _, g := range groups {
		use(g)
	}
}

// selection is the rows that match, ordered by node address within each vBucket.
type selection struct {
	rows  []*serverpb.RegionInfo
	parts []part
}

// part is the rows of one vBucket: those of a selection from one index up to another.
type part struct {
	place
	from, to int
}

// selectRows returns the rows that are shown and match. It looks only at vBuckets that
// match; a filter by data centre alone looks at all.
func (t *table) selectRows(f filter) selection {
	var out selection
	if f == (filter{}) {
		out.rows = make([]*serverpb.RegionInfo, 0, len(t.rows))
	}
	t.groups(f, func(g *group) {
		from := len(out.rows)
		for _, r := range g.rows {
			if r.visible() && admits(f.dc, r.info.GetDcID()) {
				out.rows = append(out.rows, r.info)
			}
		}
		if len(out.rows) > from {
			out.parts = append(out.parts, part{place: g.place, from: from, to: len(out.rows)})
		}
	})
	return out
}

// sorted returns the rows in the order of their keys. It needs no lock.
func (s selection) sorted() []*serverpb.RegionInfo {
	if len(s.parts) < 2 {
		return s.rows
	}
	slices.SortFunc(s.parts, func(a, b part) int { return a.place.compare(b.place) })
	out := make([]*serverpb.RegionInfo, 0, len(s.rows))
	for _, p := range s.parts {
		out = append(out, s.rows[p.from:p.to]...)
	}
	return out
}

// query returns the rows that are shown and match, in the order of their keys.
func (t *table) query(f filter) []*serverpb.RegionInfo {
	t.mu.Lock()
	out := t.selectRows(f)
	t.mu.Unlock()
	return out.sorted()
}
