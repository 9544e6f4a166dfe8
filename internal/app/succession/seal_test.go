package succession

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// sealable is a member's vBucket that another member owns, or none while it is sealed.
type sealable struct {
	role.Replica
	by string
	// behind: the log has the end of the seal, and this state does not yet.
	behind bool
	// deaf: this state applies nothing.
	deaf bool
	// set is the standing set of the log.
	set []byte
	// restoring: a restore is in progress, whose owner is this node if owner is set.
	restoring, owner bool
	state            replica.State
}

func (s *sealable) Standbys() ([]byte, kv.Index) { return s.set, 1 }

func (s *sealable) Owner() replica.Owner { return replica.Owner{Self: s.owner} }
func (s *sealable) Status() replica.Status {
	return replica.Status{State: s.state, Restoring: s.restoring}
}
func (s *sealable) Sealed() string                            { return s.by }
func (s *sealable) SealedAt() (promotion string, at kv.Index) { return s.by, 10 }

func (s *sealable) Propose(_ context.Context, c *command.Command) (command.Result, error) {
	if s.restoring {
		return command.Result{}, replica.ErrRestoring
	}
	if c.Kind.Fenced() {
		return command.Result{}, kv.Errorf(kv.Unavailable, "not the owner")
	}
	if !s.deaf && (s.behind || c.Kind == command.Unseal && string(c.Expect) == s.by) {
		s.by = ""
	}
	return command.Result{Index: 11}, nil
}

// sealableMember is a role with one vBucket.
type sealableMember struct {
	role.Role
	replica *sealable
	peers   []cluster.Peer
}

func (m sealableMember) VBuckets() []role.VBucket {
	return []role.VBucket{{Name: "default", Replica: m.replica}}
}
func (m sealableMember) Cluster() role.Cluster { return peers{list: m.peers} }
func (sealableMember) Name() string            { return "a master" }

type peers struct {
	role.Cluster
	list []cluster.Peer
}

func (p peers) Peers() []cluster.Peer { return p.list }

func serviceOf(r *sealable) *Service {
	n := &node.Node{Log: quiet}
	n.Layout.Database = "db"
	return &Service{node: n, role: sealableMember{replica: r}}
}

// A member that owns no log confirms the seal that its state has, since a sealed log may have
// no owner, but not one that has ended in the log.
func TestAnyMemberConfirmsASeal(t *testing.T) {
	for _, c := range []struct {
		replica sealable
		want    int
	}{{sealable{by: "p"}, 1}, {sealable{by: "p", behind: true}, 0}, {sealable{by: "q"}, 0}, {sealable{}, 0}} {
		resp, err := serviceOf(&c.replica).SealDatabase(t.Context(), &peerpb.SealDatabaseRequest{Database: "db", Promotion: "p"})
		if err != nil || len(resp.GetVBuckets()) != c.want || c.want == 1 && resp.GetVBuckets()[0].GetIndex() != 10 {
			t.Errorf("sealed by %q: %v, %v", c.replica.by, resp, err)
		}
	}
}

// A master names the others by where they serve, and not by their Raft addresses, at which no promotion
// reaches them: they would neither be sealed nor hear that they were replaced.
func TestMastersAreNamedByWhereTheyServe(t *testing.T) {
	s := serviceOf(new(sealable))
	s.role = sealableMember{replica: new(sealable), peers: []cluster.Peer{{Address: "m2:9020", GRPC: "m2:8080"}, {Address: "m3:9020"}}}
	resp, err := s.SealDatabase(t.Context(), &peerpb.SealDatabaseRequest{Database: "db", Promotion: "p"})
	if got := resp.GetMasters(); err != nil || !slices.Equal(got, []string{"m2:8080"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// A seal ends at any member, and one that has it still does not say that it has ended.
func TestAnyMemberEndsASeal(t *testing.T) {
	unseal := &peerpb.SealDatabaseRequest{Database: "db", Promotion: "p", Unseal: true}
	r := &sealable{by: "p"}
	if _, err := serviceOf(r).SealDatabase(t.Context(), unseal); err != nil || r.by != "" {
		t.Errorf("%v, sealed by %q", err, r.by)
	}
	if _, err := serviceOf(&sealable{by: "p", deaf: true}).SealDatabase(t.Context(), unseal); err == nil {
		t.Error("a seal that lasts has ended")
	}
	r = &sealable{by: "p"}
	if err := abandon(t, serviceOf(r), true); err != nil || r.by != "" {
		t.Errorf("%v, sealed by %q", err, r.by)
	}
}

func abandon(t *testing.T, s *Service, force bool) error {
	t.Helper()
	return s.Promote(t.Context(), &serverpb.PromoteRequest{Abandon: true, Force: force}, func(*serverpb.PromoteProgress) error { return nil })
}

// While a founder may decide on the word of its seal without asking again, that does not end by
// hand.
func TestSealThatItsFounderCountsOnLasts(t *testing.T) {
	r := &sealable{by: "p"}
	s := serviceOf(r)
	if err := abandon(t, s, false); err == nil || !strings.Contains(err.Error(), "may still decide") || r.by != "p" {
		t.Fatalf("%v, sealed by %q", err, r.by)
	}
	s.seals.seen["p"] -= standby.Outlasts(promotion.SealTrust)
	if err := abandon(t, s, false); err != nil || r.by != "" {
		t.Errorf("%v, sealed by %q", err, r.by)
	}
}

// The seal of masters that have a record ends by hand only after the record has changed, so that
// no claim fits it which their founder makes on the word of the seal.
func TestUnsealingChangesTheRecordFirst(t *testing.T) {
	leased := (&standby.Set{Leased: true}).Record()
	r := &sealable{by: "p", set: leased}
	s, b := serviceOf(r), &book{record: &peerpb.Record{Version: 4, Deployment: "m"}}
	if err := abandon(t, s, false); err == nil || r.by != "p" {
		t.Errorf("it asks no registry: %v, sealed by %q", err, r.by)
	}
	s.registry = b
	b.down = errors.New("no answer")
	if err := abandon(t, s, false); err == nil || r.by != "p" {
		t.Errorf("the registry does not answer: %v, sealed by %q", err, r.by)
	}
	b.down = nil
	if err := abandon(t, s, false); err != nil || r.by != "" || b.record.Version != 5 {
		t.Errorf("%v, sealed by %q, version %d", err, r.by, b.record.Version)
	}
	r.by, b.record.Era = "q", 1
	if err := abandon(t, s, false); err == nil || !strings.Contains(err.Error(), "has replaced these masters") || r.by != "q" {
		t.Errorf("the era was given: %v, sealed by %q", err, r.by)
	}
}

// A node that has become something else has no seal of that kind to end.
func TestNothingToUnsealAfterAChangeOfRole(t *testing.T) {
	slave := serviceOf(&sealable{})
	slave.founder = new(promotion.Founder)
	if _, err := slave.SealDatabase(t.Context(), &peerpb.SealDatabaseRequest{Database: "db", Promotion: "p", Unseal: true}); err != nil {
		t.Error(err)
	}
	if _, err := slave.SealDatabase(t.Context(), &peerpb.SealDatabaseRequest{Database: "db", Promotion: "p"}); err == nil {
		t.Error("a slave was sealed as a master")
	}
	if _, err := serviceOf(&sealable{}).SealCopies(t.Context(), &peerpb.SealCopiesRequest{Database: "db", Promotion: "p", Unseal: true}); err != nil {
		t.Error(err)
	}
	if _, err := serviceOf(&sealable{}).SealCopies(t.Context(), &peerpb.SealCopiesRequest{Database: "db", Promotion: "p"}); err == nil {
		t.Error("a master was sealed as a slave")
	}
}

// An id that no member could read in its log is rejected, also from an administrator.
func TestIDsOfPromotionsAreBounded(t *testing.T) {
	for _, unseal := range []bool{false, true} {
		_, err := serviceOf(new(sealable)).SealDatabase(t.Context(), &peerpb.SealDatabaseRequest{
			Database: "db", Promotion: strings.Repeat("p", command.MaxPromotion+1), Unseal: unseal,
		})
		if kv.KindOf(err) != kv.Invalid {
			t.Errorf("unseal %v: %v", unseal, err)
		}
	}
}
