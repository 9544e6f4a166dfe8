package succession

import (
	"context"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/standby/witness"
)

// book is a registry with one record, whose version a disk that leaves raises.
type book struct {
	witness.Registry
	record *peerpb.Record
	left   []string
	// down is why it does not answer what changes the record.
	down error
	// claimed is the id of the masters that have claimed it.
	claimed string
}

func (b *book) Claim(_ context.Context, r *peerpb.ClaimRequest) (*peerpb.ClaimResponse, error) {
	b.claimed = r.GetPromotion()
	return &peerpb.ClaimResponse{Given: b.record.GetEra() == r.GetEra(), Record: b.record}, nil
}

func (b *book) GetRecord(context.Context, *peerpb.GetRecordRequest) (*peerpb.RecordResponse, error) {
	return &peerpb.RecordResponse{Record: proto.CloneOf(b.record)}, nil
}

func (b *book) ChangeRecord(_ context.Context, r *peerpb.ChangeRecordRequest) (*peerpb.RecordResponse, error) {
	if b.down != nil {
		return nil, b.down
	}
	b.left = append(b.left, r.GetLeaving()...)
	b.record.Version++
	return &peerpb.RecordResponse{Record: b.record}, nil
}

// A claim that was withdrawn does not fit the record any more, unless it was given before.
func TestWithdrawnClaimFitsNoRecord(t *testing.T) {
	claim, of := promotion.Claim{Era: 1, Version: 4}, promotion.Record{ID: "p"}
	for _, c := range []struct {
		record *peerpb.Record
		given  bool
		left   []string
	}{
		{&peerpb.Record{Era: 1, Version: 4, Deployment: "m"}, false, []string{"disk"}},
		{&peerpb.Record{Era: 1, Version: 5, Deployment: "m"}, false, nil},
		{&peerpb.Record{Era: 2, Version: 5, Deployment: "p"}, true, nil},
		{&peerpb.Record{Era: 2, Version: 5, Deployment: "q"}, false, nil},
		{nil, false, nil},
	} {
		b := &book{record: c.record}
		r := &record{Candidate: witness.Candidate{Registry: b, Database: "db", Disk: "disk"}}
		given, err := r.Withdraw(t.Context(), claim, of)
		if err != nil || given != c.given || !reflect.DeepEqual(b.left, c.left) {
			t.Errorf("%v: %v, %v, left %v", c.record, given, err, b.left)
		}
	}
}

// Each node of a set knows that its promotion is a planned one: it tells the former masters too.
func TestNodesOfASetKnowWhatIsPlanned(t *testing.T) {
	r := promotion.Record{
		ID: "p", Step: promotion.Decided, Era: 2, History: "2-a", Planned: true, Deployment: 7, Format: 1, Replica: 2, Masters: []string{"m:1"},
		Nodes: []promotion.Node{{Replica: 2, Address: "n:2", URL: "http://n:3", Disk: "d"}},
		Cuts:  map[string]promotion.Cut{"default": {Former: "1-b", End: 9, Clock: 8}},
	}
	if got := recordOf(becomes("db", r)); !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, want %+v", got, r)
	}
}

// The masters of a set are known to the registry by the id of their cluster, as a member that is
// added later is; a founder that is alone by its promotion.
func TestNewMastersAreNamedByTheirCluster(t *testing.T) {
	alone := promotion.Record{ID: "p"}
	set := promotion.Record{ID: "p", Deployment: 0xabc, Nodes: []promotion.Node{{Replica: 1}}}
	for _, c := range []struct {
		of   promotion.Record
		want string
	}{{alone, "p"}, {set, "0000000000000abc"}} {
		b := &book{record: &peerpb.Record{Era: 1, Version: 4}}
		r := &record{Candidate: witness.Candidate{Registry: b, Database: "db", Disk: "disk"}}
		if _, err := r.Claim(t.Context(), promotion.Claim{Era: 1, Version: 4}, c.of); err != nil || b.claimed != c.want {
			t.Errorf("%q, %v; want %q", b.claimed, err, c.want)
		}
	}
}

// A claim that the release before has sent for a set, which it named by the promotion, was given
// although the set is named by its cluster now.
func TestClaimOfTheReleaseBeforeWasGiven(t *testing.T) {
	claim, of := promotion.Claim{Era: 1, Version: 4}, promotion.Record{ID: "p", Era: 2, Deployment: 0xabc, Nodes: []promotion.Node{{Replica: 1}}}
	for _, c := range []struct {
		record *peerpb.Record
		want   bool
	}{
		{&peerpb.Record{Era: 2, Version: 5, Deployment: "p"}, true},
		{&peerpb.Record{Era: 3, Version: 5, Deployment: "p"}, false},
		{&peerpb.Record{Era: 2, Version: 5, Deployment: "q"}, false},
	} {
		r := &record{Candidate: witness.Candidate{Registry: &book{record: c.record}, Database: "db", Disk: "disk"}}
		verdict, err := r.Claim(t.Context(), claim, of)
		given, failed := r.Withdraw(t.Context(), claim, of)
		if err != nil || failed != nil || verdict.Given != c.want || given != c.want {
			t.Errorf("%v: %v, %v, %v, %v; want %v", c.record, verdict, err, given, failed, c.want)
		}
	}
}

// The record says who may replace masters that cannot be sealed, if they need its lease.
func TestRecordNamesItsStandbys(t *testing.T) {
	found := &peerpb.Record{Era: 1, Version: 4, Standbys: []*peerpb.StandbyNode{
		{Disk: "other", Address: "o:1", Level: uint32(kv.AckSync)}, {Disk: "disk", Address: "d:1", Level: uint32(kv.AckSemiSync)},
	}}
	r := &record{Candidate: witness.Candidate{Registry: &book{record: found}, Database: "db", Disk: "disk"}}
	for millis, want := range map[uint64]promotion.Claim{
		0:    {Era: 1, Version: 4},
		1000: {Era: 1, Version: 4, Standby: true, At: []string{"o:1", "d:1"}},
	} {
		found.LeaseMillis = millis
		if got, err := r.Record(t.Context()); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
}
