package replication

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/testkit"
)

func slave(zone, host string, port uint32) *serverpb.Replica {
	return &serverpb.Replica{Zone: zone, Hostname: host, Port: port}
}

// wantReplicas checks the list, as zone/host:port.
func wantReplicas(t *testing.T, c serverpb.DKVReplicationClient, zone string, want ...string) {
	t.Helper()
	resp, err := c.GetReplicas(testkit.Within(t, patience), &serverpb.GetReplicasRequest{Zone: zone})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, r := range resp.GetReplicas() {
		got = append(got, fmt.Sprintf("%s/%s:%d", r.GetZone(), r.GetHostname(), r.GetPort()))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("zone %q has %q, want %q", zone, got, want)
	}
}

func TestReplicaList(t *testing.T) {
	r := newRig(t)
	wantReplicas(t, r.Replication, "")
	for _, s := range []*serverpb.Replica{
		slave("z2", "c", 1), slave("z1", "b", 65535), slave("z1", "a.example.org", 8080), slave("", "::1", 80), slave("z1", "b", 65535),
	} {
		if st, err := r.Replication.AddReplica(t.Context(), s); err != nil || st.GetCode() != 0 {
			t.Fatalf("%v: %v, %v", s, st, err)
		}
	}
	wantReplicas(t, r.Replication, "", "/::1:80", "z1/a.example.org:8080", "z1/b:65535", "z2/c:1")
	wantReplicas(t, r.Replication, "z1", "z1/a.example.org:8080", "z1/b:65535")
	wantReplicas(t, r.Replication, "z")
	// Neither a pause nor a restore concerns the list.
	r.MustBackup("b1")
	if _, err := r.Ops.PauseWrites(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*serverpb.Replica{slave("z1", "b", 65535), slave("", "::1", 80), slave("z9", "unknown", 1)} {
		if st, err := r.Replication.RemoveReplica(t.Context(), s); err != nil || st.GetCode() != 0 {
			t.Fatalf("%v: %v, %v", s, st, err)
		}
	}
	r.MustRestore("b1")
	wantReplicas(t, r.Replication, "", "z1/a.example.org:8080", "z2/c:1")
}

func TestReplicaListRefuses(t *testing.T) {
	r := newRig(t)
	long := strings.Repeat("z", 256)
	for _, c := range []struct {
		s    *serverpb.Replica
		want string
	}{
		{slave("z", "", 1), "hostname is empty; say where the slave serves"},
		{slave("z", "a b", 1), `hostname "a b" is neither a name nor an address`},
		{slave("z", "http://a", 1), `hostname "http://a" is neither a name nor an address`},
		{slave("z", "a\x00", 1), `hostname "a\x00" is neither a name nor an address`},
		{slave("z", long, 1), fmt.Sprintf("hostname %.64q is neither a name nor an address", long)},
		{slave("z", "a;b", 1), `hostname "a;b" is neither a name nor an address`},
		{slave("z", "0.0.0.0", 1), `hostname "0.0.0.0" is not the address of one host; say where clients reach the slave`},
		{slave("z", "::", 1), `hostname "::" is not the address of one host; say where clients reach the slave`},
		{slave("z", "a:b", 1), `hostname "a:b" is not the address of one host; say where clients reach the slave`},
		{slave("z", "224.0.0.1", 1), `hostname "224.0.0.1" is not the address of one host; say where clients reach the slave`},
		{slave("z", "a", 0), "port 0 is not a valid port; ports go from 1 to 65535"},
		{slave("z", "a", 65536), "port 65536 is not a valid port; ports go from 1 to 65535"},
		{slave("z\x00", "a", 1), `zone "z\x00" is not a valid name; use up to 255 bytes without control characters`},
		{slave(long, "a", 1), fmt.Sprintf("zone %.64q is not a valid name; use up to 255 bytes without control characters", long)},
	} {
		_, err := r.Replication.AddReplica(t.Context(), c.s)
		mastertest.WantStatus(t, err, codes.InvalidArgument, c.want)
		_, err = r.Replication.RemoveReplica(t.Context(), c.s)
		mastertest.WantStatus(t, err, codes.InvalidArgument, c.want)
	}
	wantReplicas(t, r.Replication, "")
	for i := range maxSlaves {
		s, err := slaveOf(slave("z", fmt.Sprint("h", i), 1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Local.Propose(t.Context(), &command.Command{Kind: command.SetSlave, Expect: s.Append(nil), Flag: true}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.Replication.AddReplica(t.Context(), slave("z", "more", 1))
	mastertest.WantStatus(t, err, codes.ResourceExhausted, "1024 slaves are on the list, which is the limit; remove those that are gone, or wait: a slave that is not heard from for 5m0s is removed (not applied)")
	if _, err := r.Replication.AddReplica(t.Context(), slave("z", "h7", 1)); err != nil {
		t.Error("one that is on the list:", err)
	}
	if _, err := r.Replication.RemoveReplica(t.Context(), slave("z", "h7", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Replication.AddReplica(t.Context(), slave("z", "more", 1)); err != nil {
		t.Error(err)
	}
}

// TestReplicaListOfACluster: any node may be asked; the first vBucket's owner
// decides.
func TestReplicaListOfACluster(t *testing.T) {
	c := newCluster(t, 3, 2)
	c.Own(0, 2)
	if _, err := c.Nodes[0].Replication.AddReplica(testkit.Within(t, patience), slave("z", "a", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Nodes[2].Replication.AddReplica(testkit.Within(t, patience), slave("z", "b", 1)); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		wantReplicas(t, n.Replication, "", "z/a:1", "z/b:1")
	}
	if _, err := c.Nodes[1].Replication.RemoveReplica(testkit.Within(t, patience), slave("z", "a", 1)); err != nil {
		t.Fatal(err)
	}
	wantReplicas(t, c.Nodes[0].Replication, "", "z/b:1")
	for i, want := range []uint64{1, 1, 0} {
		if got := c.Nodes[i].Router.Forwards(); got != (route.Forwards{Writes: want}) {
			t.Errorf("node %d: %+v", i, got)
		}
	}
	c.Own(0, mastertest.NoOne)
	testkit.Timely(t, func() error { // the answer has to arrive before the deadline
		_, err := c.Nodes[0].Replication.AddReplica(testkit.Within(t, time.Second), slave("z", "c", 1))
		if mastertest.Reason(err) != kv.ReasonNotApplied {
			return fmt.Errorf("without an owner: %w", err)
		}
		return nil
	})
}

// TestFollowers: who asks for changes and says who it is, counts, and shows in the
// list where it is on it.
func TestFollowers(t *testing.T) {
	r := newRig(t)
	for range 4 {
		r.MustPut("a", "1")
	}
	for _, s := range []*serverpb.Replica{slave("z", "polls", 1), slave("z", "streams", 1), slave("z", "silent", 1)} {
		if _, err := r.Replication.AddReplica(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	poll := func(from uint64, s *serverpb.Replica) {
		t.Helper()
		if _, err := r.Replication.GetChanges(t.Context(), &serverpb.GetChangesRequest{FromChangeNumber: from, Replica: s}); err != nil {
			t.Fatal(err)
		}
	}
	poll(3, slave("z", "polls", 1))
	poll(1, nil)
	poll(1, slave("z", "", 1))         // does not say who it is
	poll(2, slave("z", "unlisted", 1)) // counts all the same
	s := r.stream(testkit.Within(t, patience), &serverpb.StreamChangesRequest{FromChangeNumber: 2, Replica: slave("z", "streams", 1)})
	s.until(r.Local.Status().Applied)
	s.next() // by now the one before is noted
	resp, err := r.Replication.GetReplicas(t.Context(), &serverpb.GetReplicasRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range resp.GetReplicas() {
		want := map[string]uint64{"polls": 2, "streams": 1, "silent": 0}[got.GetHostname()]
		if got.GetChangeNumber() != want || (got.GetSinceMillis() == 0) != (want == 0) {
			t.Errorf("%v, want the number %d", got, want)
		}
	}
	if n := r.service.Followers("default"); n != 3 {
		t.Errorf("%d followers, want 3", n)
	}
	if n := r.service.Followers("other"); n != 0 {
		t.Errorf("%d followers of another vBucket", n)
	}
}

// TestFollowersAreForgotten: those that are not heard of cease to count, and then to
// take memory, of which even liars take no more than a bound.
func TestFollowersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFollowers()
		heard := func(i int) { f.heard(slave("z", fmt.Sprint("h", i), 1), "v", kv.Index(i)) }
		key, err := slaveOf(slave("z", "h1", 1))
		if err != nil {
			t.Fatal(err)
		}
		heard(1)
		heard(1)
		heard(2)
		if n := f.count("v"); n != 2 {
			t.Errorf("%d count", n)
		}
		time.Sleep(followerLively + time.Second)
		heard(2)
		if n := f.count("v"); n != 1 {
			t.Errorf("%d count, of which one was not heard of", n)
		}
		if applied, since, known := f.at(key, "v"); !known || applied != 1 || since != followerLively+time.Second {
			t.Errorf("%d, %v, %v", applied, since, known)
		}
		time.Sleep(followerKept)
		if _, _, known := f.at(key, "v"); known {
			t.Error("it is remembered")
		}
		for i := range 2 * maxFollowers {
			heard(10 + i)
		}
		if len(f.seen) != maxFollowers {
			t.Errorf("%d are remembered", len(f.seen))
		}
		time.Sleep(followerKept + followerLively)
		if heard(1); len(f.seen) != 1 {
			t.Errorf("%d are remembered when all but one are gone", len(f.seen))
		}
	})
}
