package discovery

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// limited is a registry in simulated time with few rows of room.
type limited struct {
	*testing.T
	*table
	now time.Time
}

func newLimited(t *testing.T, l Limits) *limited {
	return &limited{T: t, table: newTable(times{timeout: time.Minute, ttl: time.Hour}, l.orDefault()), now: time.Now()}
}

// send has a row arrive and be stored.
func (l *limited) send(in *serverpb.RegionInfo) error {
	_, err := l.heartbeat(l.now, 0, in)
	l.mu.Lock()
	l.storeAll(l.now)
	l.mu.Unlock()
	return err
}

// must sends a row that is to be taken.
func (l *limited) must(in *serverpb.RegionInfo) {
	l.Helper()
	if err := l.send(in); err != nil {
		l.Fatal(err)
	}
}

// refused sends a row that is to be refused with a text.
func (l *limited) refused(in *serverpb.RegionInfo, want string) {
	l.Helper()
	if err := l.send(in); kv.KindOf(err) != kv.Exhausted || !strings.Contains(err.Error(), want) {
		l.Fatalf("%v, want %q", err, want)
	}
}

// pass lets time go by, in which nodes keep sending.
func (l *limited) pass(d time.Duration, rows ...*serverpb.RegionInfo) {
	for range d / (10 * time.Second) {
		l.now = l.now.Add(10 * time.Second)
		for _, r := range rows {
			l.must(r)
		}
		l.expire(l.now)
		l.mu.Lock()
		l.storeAll(l.now)
		l.mu.Unlock()
	}
}

func TestNodesOfAVBucketAreLimited(t *testing.T) {
	l := newLimited(t, Limits{Nodes: 8})
	m := region("db/0/m:1/dc1", leader, cluster("ours"))
	l.must(m)
	for i := range 5 {
		l.must(region(fmt.Sprintf("db/0/s%d:1/dc1", i), slave, cluster("ours")))
	}
	for i := range 100 {
		l.refused(region(fmt.Sprintf("db/0/x%d:1/dc1", i), slave, cluster("ours")), `vBucket "0" of database "db" has 6 nodes`)
	}
	// Masters find room still, known nodes are heard, and so are other vBuckets.
	l.must(region("db/0/n:1/dc1", secondary, cluster("ours")))
	l.must(region("db/0/o:1/dc1", secondary, cluster("ours")))
	l.refused(region("db/0/p:1/dc1", secondary, cluster("ours")), "has 8 nodes")
	l.must(region("db/0/s3:1/dc2", slave, cluster("ours")))
	l.must(region("db/1/x:1/dc1", slave))
	// Nodes that are silent make room.
	l.pass(90*time.Second, m)
	for i := range 6 {
		l.must(region(fmt.Sprintf("db/0/y%d:1/dc1", i), slave, cluster("ours")))
	}
	if got := len(l.databases["db"].groups["0"].rows); got > 8 {
		t.Errorf("%d rows", got)
	}
}

// TestEachDatabaseFindsRoom has one database take all the room that it gets, with large
// rows: others find theirs.
func TestEachDatabaseFindsRoom(t *testing.T) {
	l := newLimited(t, Limits{Rows: 400, Databases: 10})
	large := func(r *serverpb.RegionInfo) { r.NodeName = strings.Repeat("n", maxName) }
	refused := 0
	for i := range 1000 {
		if l.send(region(fmt.Sprintf("greedy/%d/a%d:1/dc1", i%20, i), slave, large)) != nil {
			refused++
		}
	}
	if refused < 600 || l.weight > 300 {
		t.Errorf("%d of 1000 rows were refused, the others weigh %d", refused, l.weight)
	}
	for d := range 9 {
		for i := range 10 {
			l.must(region(fmt.Sprintf("db%d/%d/m:1/dc1", d, i), leader))
		}
		l.refused(region(fmt.Sprintf("db%d/10/m:1/dc1", d), leader), "max-rows")
	}
	l.refused(region("db10/0/m:1/dc1", leader), "rows of 10 databases")
	if l.weight > 400 {
		t.Errorf("all rows weigh %d", l.weight)
	}
}

// TestRecordsTakeNoRoom: records are kept for ever, beside as many databases with rows.
func TestRecordsTakeNoRoom(t *testing.T) {
	l := newLimited(t, Limits{Databases: 3})
	record := func(name string) {
		for i := range 3 {
			l.follow(&peerpb.Record{Database: fmt.Sprint(name, i), Version: 1, Era: 1}, l.now)
		}
	}
	record("gone")
	for i := range 3 {
		l.must(region(fmt.Sprintf("db%d/0/m:1/dc1", i), leader))
	}
	l.refused(region("db3/0/m:1/dc1", leader), "rows of 3 databases")
	l.pass(2 * time.Hour)
	if len(l.databases) != 0 {
		t.Errorf("%d databases without rows", len(l.databases))
	}
	record("later")
	for i := range 3 {
		l.must(region(fmt.Sprintf("gone%d/0/m:1/dc1", i), leader))
	}
	if got := fmt.Sprint(text(l.query(filter{}))); strings.Contains(got, "LEADER") {
		t.Errorf("shown as leaders although the records are of another era: %s", got)
	}
}

// TestSilentRowsMakeRoom fills the registry, and again when what filled it is silent.
func TestSilentRowsMakeRoom(t *testing.T) {
	l := newLimited(t, Limits{Rows: 400, Databases: 10})
	for round := range 3 {
		for i := range 300 {
			l.must(region(fmt.Sprintf("db/%d/r%d-%d:1/dc1", i%20, round, i), slave))
		}
		l.refused(region("db/0/one-more:1/dc1", slave), "max-rows")
		l.pass(90 * time.Second)
	}
	if len(l.rows) > 400 {
		t.Errorf("%d rows", len(l.rows))
	}
}

// TestLimitsHoldWhileRowsAreStored sends more rows at once than there is room for.
func TestLimitsHoldWhileRowsAreStored(t *testing.T) {
	l := newLimited(t, Limits{Nodes: 8})
	_, err := l.heartbeat(l.now, 0, crowd(30)...)
	if kv.KindOf(err) != kv.Exhausted {
		t.Error(err)
	}
	if got := len(l.open.changes); got != 8 {
		t.Errorf("%d rows are stored", got)
	}
	// They take no room for good if they cannot be stored.
	b := l.take()
	l.giveBack(changesOf(b))
	if len(l.rows) != 0 || l.weight != 0 {
		t.Errorf("%d rows, which weigh %d", len(l.rows), l.weight)
	}
}

func changesOf(b *batch) (out []change) {
	for _, c := range b.changes {
		out = append(out, c)
	}
	return out
}

func TestVBucketsOfADatabaseAreLimited(t *testing.T) {
	l := newLimited(t, Limits{Rows: 1e6})
	for i := range maxVBuckets {
		l.must(region(fmt.Sprintf("db/v%d/a:1/dc1", i), slave))
	}
	l.refused(region("db/one-more/a:1/dc1", slave), "1024 vBuckets")
}
