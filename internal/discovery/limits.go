package discovery

import (
	"cmp"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// Limits bound what nodes may register, since any host that reaches the registry may send
// rows. A row that is known is renewed whatever the limits say.
type Limits struct {
	// Rows bounds all rows together. A row counts once for each rowUnit bytes of its
	// size. Raise it with the number of nodes times their vBuckets; each row takes up to
	// a kibibyte of memory.
	Rows int
	// Nodes bounds the rows of one vBucket, a quarter of them reserved for masters.
	// Raise it for more slaves than that.
	Nodes int
	// Databases bounds the databases that have rows, and the records. Each database may
	// have Rows/4/Databases rows, however many the others have.
	Databases int
}

const (
	// DefaultMaxRows is enough for a thousand nodes of a hundred vBuckets each.
	DefaultMaxRows = 200_000
	// DefaultMaxNodes keeps the rows of a vBucket well below 4 MiB.
	DefaultMaxNodes = 512
	// DefaultMaxDatabases leaves each database a share of fifty rows.
	DefaultMaxDatabases = 1000
	// rowUnit is the size of a row that counts once, in bytes.
	rowUnit = 512
)

func (l Limits) orDefault() Limits {
	return Limits{
		Rows:      cmp.Or(l.Rows, DefaultMaxRows),
		Nodes:     cmp.Or(l.Nodes, DefaultMaxNodes),
		Databases: cmp.Or(l.Databases, DefaultMaxDatabases),
	}
}

func weightOf(info *serverpb.RegionInfo) int { return 1 + textSize(info)/rowUnit }

// room returns an error if there is no room for a new row. Silent rows are purged to make
// room.
func (t *table) room(in *serverpb.RegionInfo) error {
	key := keyOf(in)
	d := t.databases[key.database]
	if d == nil {
		if len(t.databases) >= t.limits.Databases {
			return kv.Errorf(kv.Exhausted, "the registry has rows of %d databases, which is the limit; there is no room for database %q", len(t.databases), key.database)
		}
		return t.roomFor(nil, in)
	}
	g := d.groups[key.vBucket]
	if g == nil {
		if len(d.groups) >= maxVBuckets {
			return kv.Errorf(kv.Exhausted, "database %q has rows of %d vBuckets, which is the limit", d.name, len(d.groups))
		}
		return t.roomFor(d, in)
	}
	most := t.limits.Nodes
	if !masterStatus(in.GetStatus()) || in.GetClusterID() != g.cluster {
		most -= most / 4
	}
	if len(g.rows) >= most && !t.evict(g) {
		return kv.Errorf(kv.Exhausted, "vBucket %q of database %q has %d nodes, and no more than %d are registered (discovery-service.server.max-nodes)",
			g.vBucket, d.name, len(g.rows), most)
	}
	return t.roomFor(d, in)
}

// roomFor returns an error if there is no room for a row among those of all databases.
func (t *table) roomFor(d *database, in *serverpb.RegionInfo) error {
	weight := weightOf(in)
	for t.weight+weight > t.limits.Rows*3/4 && t.evictOldest() {
	}
	have := 0
	if d != nil {
		have = d.weight
	}
	crowded := t.weight+weight > t.limits.Rows*3/4
	if crowded && (have+weight > t.limits.Rows/4/t.limits.Databases || t.weight+weight > t.limits.Rows) {
		return kv.Errorf(kv.Exhausted, "the registry has %d rows, and no more than %d are registered (discovery-service.server.max-rows)", len(t.rows), t.limits.Rows)
	}
	return nil
}

// evict purges a silent row of a vBucket.
func (t *table) evict(g *group) bool {
	var oldest *row
	for _, r := range g.rows {
		if r.silent() && r.queued != nil && (oldest == nil || r.heard.Before(oldest.heard)) {
			oldest = r
		}
	}
	return t.evictRow(oldest)
}

// evictOldest purges the row that has been silent for the longest time.
func (t *table) evictOldest() bool {
	if e := t.queues[silent].Front(); e != nil {
		return t.evictRow(e.Value.(*row))
	}
	return false
}

func (t *table) evictRow(r *row) bool {
	if r == nil {
		return false
	}
	t.stage(change{kind: purged, key: r.key, info: r.info})
	t.remove(r)
	return true
}
