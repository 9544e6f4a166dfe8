package succession

import (
	"context"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// stoppableMember is a member with one vBucket.
type stoppableMember struct {
	sealableMember
	// end is what it knows of its log once it is stopped.
	end promotion.StoppedVBucket
}

func (stoppableMember) Deployment() string { return "d" }

func (m stoppableMember) Voters() ([]promotion.StoppedVBucket, error) {
	return []promotion.StoppedVBucket{m.end}, nil
}

func (m stoppableMember) Halt(context.Context, error, func(string) string) ([]promotion.StoppedVBucket, error) {
	return []promotion.StoppedVBucket{m.end}, nil
}

var _ role.Role = stoppableMember{}

// stoppableService is that of a member with a data folder.
func stoppableService(t *testing.T, end promotion.StoppedVBucket) *Service {
	t.Helper()
	s := serviceOf(&sealable{})
	s.role = stoppableMember{s.role.(sealableMember), end}
	dir, err := datadir.Open(t.TempDir(), datadir.Identity{Engine: "e", Database: "db", VBuckets: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	s.node.Dir, s.stops.ended = dir, make(chan error, 1)
	return s
}

// opensAgain lets a service begin as after the end of its role.
func (s *Service) opensAgain(t *testing.T) {
	t.Helper()
	part, err := promotion.Of(s.node.Dir.Path())
	if err != nil {
		t.Fatal(err)
	}
	s.part, s.stops.now, s.stops.ended = part, part.Stopped, make(chan error, 1)
}

func stopFor(t *testing.T, s *Service, id string, resume bool) error {
	t.Helper()
	_, err := s.StopDatabase(t.Context(), &peerpb.StopDatabaseRequest{Database: "db", Promotion: id, Resume: resume})
	s.opensAgain(t)
	return err
}

// The seal of another promotion is found at the end of the log if it is not applied here: its
// founder may decide, so that this one may not.
func TestStopFindsTheSealOfAnotherPromotion(t *testing.T) {
	s := stoppableService(t, promotion.StoppedVBucket{Name: "default", Seals: []string{"p", "q"}})
	for _, first := range []bool{true, false} {
		err := stopFor(t, s, "p", false)
		if err == nil || first && (kv.KindOf(err) != kv.Precondition || !strings.Contains(err.Error(), "promotion q may have sealed")) {
			t.Errorf("it counts: %v", err)
		}
	}
	if err := stopFor(t, s, "p", true); err != nil || s.stops.now.Holds() {
		t.Errorf("it is stopped still: %v", err)
	}
	own := stoppableService(t, promotion.StoppedVBucket{Name: "default", Seals: []string{"p"}})
	if err := stopFor(t, own, "p", false); err != nil {
		t.Error(err)
	}
}

// A promotion stops no masters during a restore, which rejects its seal: they are all there. What is left
// of a restore whose owner is gone keeps none from being stopped.
func TestRestoreKeepsMastersFromBeingStopped(t *testing.T) {
	for _, owner := range []bool{true, false} {
		s := stoppableService(t, promotion.StoppedVBucket{Name: "default"})
		v := s.role.VBuckets()[0].Replica.(*sealable)
		v.restoring, v.owner = true, owner
		if err := stopFor(t, s, "p", false); (kv.KindOf(err) == kv.Precondition) != owner || s.stops.now.Holds() == owner {
			t.Errorf("owner %v: %v, stopped: %v", owner, err, s.stops.now.Holds())
		}
		if _, err := seal(t.Context(), s.role.VBuckets()[0], command.Seal, "p"); kv.KindOf(err) != kv.Precondition {
			t.Errorf("the seal: %v", err)
		}
	}
}

// Every promotion that was given up is remembered, also while another one has stopped the node.
func TestLateOrdersStopNothing(t *testing.T) {
	s := stoppableService(t, promotion.StoppedVBucket{Name: "default"})
	for _, step := range []struct {
		id     string
		resume bool
		holds  bool
	}{{"p", false, true}, {"q", true, true}, {"p", true, false}, {"r", true, false}, {"p", true, false}} {
		if err := stopFor(t, s, step.id, step.resume); err != nil || s.stops.now.Holds() != step.holds {
			t.Fatalf("%+v: %v, stopped: %v", step, err, s.stops.now.Holds())
		}
	}
	for _, id := range []string{"p", "q", "r"} {
		if err := stopFor(t, s, id, false); kv.KindOf(err) != kv.Precondition || s.stops.now.Holds() {
			t.Errorf("the late order of %s: %v", id, err)
		}
	}
	if err := stopFor(t, s, "s", false); err != nil || !s.stops.now.Holds() {
		t.Errorf("a new promotion does not stop it: %v", err)
	}
	if err := stopFor(t, s, "s", true); err != nil || s.stops.now.Holds() {
		t.Error(err)
	}
	if err := stopFor(t, s, "p", false); kv.KindOf(err) != kv.Precondition {
		t.Errorf("the late order of p: %v", err)
	}
}

// That the masters have a record may stand at the end of the log only, which is not applied here: the
// founder must not decide without that, nor a stop end by hand without changing it.
func TestStopFindsTheRecordAtTheEndOfTheLog(t *testing.T) {
	end := promotion.StoppedVBucket{Name: "default", Standbys: [][]byte{(&standby.Set{Leased: true}).Record()}}
	s := stoppableService(t, end)
	resp, err := s.StopDatabase(t.Context(), &peerpb.StopDatabaseRequest{Database: "db", Promotion: "p"})
	if err != nil || !resp.GetLeased() {
		t.Fatalf("%v, %v", resp, err)
	}
	s.opensAgain(t)
	s.seals.age("p")
	s.seals.seen["p"] -= standby.Outlasts(promotion.SealTrust)
	if err := abandon(t, s, false); err == nil || !strings.Contains(err.Error(), "has a record in the registry") || !s.stops.now.Holds() {
		t.Errorf("it asks no registry: %v", err)
	}
}
