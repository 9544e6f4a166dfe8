package discovery

import (
	"github.com/dkvdb/dkv/api/serverpb"
)

// filter chooses rows. A part that is nil admits any.
type filter struct{ dc, database, vBucket *string }

// filterOf reads a request. An empty part admits any too: not all clients can leave
// a field out.
func filterOf(r *serverpb.GetClusterInfoRequest) filter {
	return filter{dc: unlessEmpty(r.DcID), database: unlessEmpty(r.Database), vBucket: unlessEmpty(r.VBucket)}
}

func unlessEmpty(s *string) *string {
	if s == nil || *s == "" {
		return nil
	}
	return s
}

func admits(want *string, have string) bool { return want == nil || *want == have }

func (f filter) matches(info *serverpb.RegionInfo) bool {
	return admits(f.database, info.GetDatabase()) && admits(f.vBucket, info.GetVBucket()) && admits(f.dc, info.GetDcID())
}

// groups calls use with each vBucket that the filter admits.
func (t *table) groups(f filter, use func(*group)) {
	if f.database != nil {
		eachGroup(t.databases[*f.database], f, use)
		return
	}
	for _, groups := range t.databases {
		eachGroup(groups, f, use)
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

// selectRows returns the rows that are shown and match. It looks at the vBuckets that
// match only; a data centre alone narrows nothing down.
func (t *table) selectRows(f filter) []*serverpb.RegionInfo {
	var out []*serverpb.RegionInfo
	if f == (filter{}) {
		out = make([]*serverpb.RegionInfo, 0, len(t.rows))
	}
	t.groups(f, func(g *group) {
		for _, r := range g.rows {
			if r.visible() && admits(f.dc, r.info.GetDcID()) {
				out = append(out, r.info)
			}
		}
	})
	return out
}

// query is selectRows, ordered by key.
func (t *table) query(f filter) []*serverpb.RegionInfo {
	t.mu.Lock()
	out := t.selectRows(f)
	t.mu.Unlock()
	if f.database == nil || f.vBucket == nil {
		sortRows(out) // those of one vBucket are in order
	}
	return out
}
