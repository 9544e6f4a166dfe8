package replication

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/testkit"
)

// keep has a service look at its list of slaves once.
func keep(t *testing.T, s *Service) {
	t.Helper()
	if err := s.keepSlaves(testkit.Within(t, testkit.Patience), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

// listened makes a node one that has been there for a while.
func (s *Service) listened() {
	s.listenFor = 0
	s.listens()
}

// TestSlavesAreHeardBeforeTheyExpire: after an outage of all masters, for longer than a
// slave may be silent, those that are there have time to say so.
func TestSlavesAreHeardBeforeTheyExpire(t *testing.T) {
	r := newRig(t)
	for _, host := range []string{"gone", "there"} {
		if _, err := r.Replication.AddReplica(t.Context(), slave("z", host, 1)); err != nil {
			t.Fatal(err)
		}
	}
	r.Sleep(int64(2 * SlaveExpiry / time.Second))
	r.service.listenFor = listenFor
	r.service.listens() // as one that has just begun
	keep(t, r.service)
	wantReplicas(t, r.Replication, "", "z/gone:1", "z/there:1")
	if _, err := r.Replication.AddReplica(t.Context(), slave("z", "there", 1)); err != nil {
		t.Fatal(err)
	}
	r.service.listened()
	keep(t, r.service)
	wantReplicas(t, r.Replication, "", "z/there:1")
	if slaves, err := r.Local.Slaves(t.Context()); err != nil || len(slaves) != 1 {
		t.Errorf("the state still has %v, %v", slaves, err)
	}
}

// A log's clock that jumps makes entries older although no slave was silent: they have time to say
// so. Those that are gone expire after that.
func TestSlavesAreHeardAfterAJumpOfTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.service.listenFor = listenFor
		defer testkit.Run(t, func(ctx context.Context) error {
			r.service.KeepSlaves(ctx, func() bool { return false }, slog.New(slog.DiscardHandler))
			return nil
		})()
		for _, host := range []string{"gone", "there"} {
			if _, err := r.Replication.AddReplica(t.Context(), slave("z", host, 1)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(listenFor + 2*slavesInterval)
		r.Sleep(int64(SlaveExpiry/time.Second) + 1)
		wantReplicas(t, r.Replication, "", "z/gone:1", "z/there:1") // also before the next check of the list
		time.Sleep(2 * slavesInterval)
		wantReplicas(t, r.Replication, "", "z/gone:1", "z/there:1")
		if _, err := r.Replication.AddReplica(t.Context(), slave("z", "there", 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(listenFor + 2*slavesInterval)
		wantReplicas(t, r.Replication, "", "z/there:1")
	})
}

// TestSlavesThatAreNotHeardOfLeaveTheList: who asks for changes or says that it is there
// stays on the list, and no one else does.
func TestSlavesThatAreNotHeardOfLeaveTheList(t *testing.T) {
	r := newRig(t)
	for _, host := range []string{"gone", "polls", "says-so"} {
		if _, err := r.Replication.AddReplica(t.Context(), slave("z", host, 1)); err != nil {
			t.Fatal(err)
		}
	}
	last := r.Local.Status().Applied
	for range 7 {
		r.Sleep(60)
		if _, err := r.Replication.AddReplica(t.Context(), slave("z", "says-so", 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Replication.GetChanges(t.Context(), &serverpb.GetChangesRequest{FromChangeNumber: 1, Replica: slave("z", "polls", 1)}); err != nil {
			t.Fatal(err)
		}
		keep(t, r.service)
	}
	wantReplicas(t, r.Replication, "", "z/polls:1", "z/says-so:1")
	if slaves, err := r.Local.Slaves(t.Context()); err != nil || len(slaves) != 2 {
		t.Errorf("the state still has %v, %v", slaves, err)
	}
	if now := r.Local.Status().Applied; now > last+15 {
		t.Errorf("%d log entries in 7 minutes", now-last)
	}
}

// TestSlavesThatExpireAreNotShown: clients that ask before the owner has taken them off
// the list are not sent there.
func TestSlavesThatExpireAreNotShown(t *testing.T) {
	r := newRig(t)
	if _, err := r.Replication.AddReplica(t.Context(), slave("z", "gone", 1)); err != nil {
		t.Fatal(err)
	}
	wantReplicas(t, r.Replication, "", "z/gone:1")
	r.Sleep(int64(SlaveExpiry/time.Second) + 1)
	wantReplicas(t, r.Replication, "")
}

// TestRenewalsCostTheLogLittle: a slave that says all the time that it is there does not
// fill the log with that.
func TestRenewalsCostTheLogLittle(t *testing.T) {
	r := newRig(t)
	add := func() {
		t.Helper()
		if _, err := r.Replication.AddReplica(t.Context(), slave("z", "a", 1)); err != nil {
			t.Fatal(err)
		}
	}
	add()
	before := r.Local.Status().Applied
	for range 100 {
		add()
	}
	if now := r.Local.Status().Applied; now != before {
		t.Errorf("%d log entries", now-before)
	}
	r.Sleep(int64(SlaveRenewal / time.Second))
	if add(); r.Local.Status().Applied != before+1 {
		t.Error("it was not renewed")
	}
}

// TestAFullListEmptiesInSteps: a list that was filled with slaves that do not exist has
// room again, and no look at it proposes more than a few changes.
func TestAFullListEmptiesInSteps(t *testing.T) {
	r := newRig(t)
	for i := range maxSlaves {
		s := command.Slave{Zone: "z", Address: fmt.Sprintf("h%d:1", i)}
		if _, err := r.Local.Propose(t.Context(), &command.Command{Kind: command.SetSlave, Expect: s.Append(nil), Flag: true}); err != nil {
			t.Fatal(err)
		}
	}
	r.Sleep(int64(SlaveExpiry/time.Second) + 1)
	for range maxSlaves / slavesAtOnce {
		before := r.Local.Status().Applied
		keep(t, r.service)
		if n := r.Local.Status().Applied - before; n > slavesAtOnce {
			t.Errorf("%d changes at once", n)
		}
	}
	if slaves, err := r.Local.Slaves(t.Context()); err != nil || len(slaves) != 0 {
		t.Errorf("%d are left, %v", len(slaves), err)
	}
}

// TestEntriesOfUnknownAgeAreRenewedFirst: those of the time after a clock that was ahead
// was set back leave the list, though not at once.
func TestEntriesOfUnknownAgeAreRenewedFirst(t *testing.T) {
	r := newRig(t)
	r.Sleep(-3600)
	if err := r.Local.SetClock(t.Context(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	r.Sleep(3600)
	if _, err := r.Replication.AddReplica(t.Context(), slave("z", "a", 1)); err != nil {
		t.Fatal(err)
	}
	r.Sleep(-3600)
	if err := r.Local.SetClock(t.Context(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	keep(t, r.service)
	wantReplicas(t, r.Replication, "", "z/a:1")
	r.Sleep(int64(SlaveExpiry/time.Second) + 1)
	keep(t, r.service)
	if slaves, err := r.Local.Slaves(t.Context()); err != nil || len(slaves) != 0 {
		t.Errorf("%v, %v", slaves, err)
	}
}

// TestTheOwnerTakesSlavesOffTheList: any master renews those that ask it, and only the
// owner of the log takes those off that no one hears of.
func TestTheOwnerTakesSlavesOffTheList(t *testing.T) {
	c := newCluster(t, 3, 1)
	for _, host := range []string{"gone", "polls"} {
		if _, err := c.Nodes[0].Replication.AddReplica(testkit.Within(t, testkit.Patience), slave("z", host, 1)); err != nil {
			t.Fatal(err)
		}
	}
	c.Sleep(int64(SlaveExpiry/time.Second) - 1)
	if _, err := c.Nodes[2].Replication.GetChanges(testkit.Within(t, testkit.Patience), &serverpb.GetChangesRequest{FromChangeNumber: 1, Replica: slave("z", "polls", 1)}); err != nil {
		t.Fatal(err)
	}
	keep(t, c.services[2])
	c.Sleep(2)
	keep(t, c.services[2])
	slaves, err := c.Nodes[0].Replicas[0].Slaves(t.Context())
	if err != nil || len(slaves) != 2 {
		t.Fatalf("a node that does not own the log changed the list: %v, %v", slaves, err)
	}
	keep(t, c.services[0])
	wantReplicas(t, c.Nodes[1].Replication, "", "z/polls:1")
	if slaves, err = c.Nodes[0].Replicas[0].Slaves(t.Context()); err != nil || len(slaves) != 1 {
		t.Errorf("%v, %v", slaves, err)
	}
}
