package slave

import (
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// TestChangesCrossDataCentresCompressed: the same copy arrives in fewer bytes, by its snapshot
// and by its changes. Within a data centre nothing is compressed.
func TestChangesCrossDataCentresCompressed(t *testing.T) {
	for name, mode := range map[string]func(*Options, *follower.Options){"poll": polling, "stream": streaming} {
		t.Run(name, func(t *testing.T) { compressed(t, mode) })
	}
}

// compressed runs in real time: what compresses is shared by the whole process.
func compressed(t *testing.T, mode func(*Options, *follower.Options)) {
	r := newRig(t)
	m := r.master("m:1", retain(changelog.Retention{MaxBytes: 64 << 10}))
	m.fill("before", 600, 500)
	far := m.row(leader)
	far.DcID = "dc2"
	for _, c := range []struct {
		name   string
		how    Compress
		row    *serverpb.RegionInfo
		packed bool
	}{
		{"another data centre", CompressAcross, far, true},
		{"this data centre", CompressAcross, m.row(leader), false},
		{"this one, always", CompressAlways, m.row(leader), true},
		{"never", CompressNever, far, false},
	} {
		rows, got := source.NewRows("db"), m.received()
		rows.Set([]*serverpb.RegionInfo{c.row}, true)
		s := r.slave(rows, mode, func(o *Options, _ *follower.Options) { o.Compress = c.how })
		s.has(m)
		m.fill(c.name, 400, 500)
		s.has(m)
		got = m.received() - got
		st := s.Puller.Status()
		s.stop()
		switch {
		case !c.packed && (st.Plain != 0 || st.Packed != 0):
			t.Errorf("%s: %d bytes are compressed to %d", c.name, st.Plain, st.Packed)
		case c.packed && (st.Plain < 300_000 || st.Packed > st.Plain/4 || uint64(got) > st.Plain/3):
			t.Errorf("%s: %d bytes were sent as %d, and %d arrived in all", c.name, st.Plain, st.Packed, got)
		}
	}
}
