package succession

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// sealed is a replica that a promotion of other nodes may seal.
type sealed interface {
	Sealed() string
	SealedAt() (promotion string, at kv.Index)
}

// sealOf returns the promotion that has sealed a vBucket; empty for none.
func sealOf(v role.VBucket) string {
	if r, is := v.Replica.(sealed); is {
		return r.Sealed()
	}
	return ""
}

// unsealHere ends the seals of this master by hand: their founder may be gone. Unless it is
// forced, the founder can no longer decide on the word of these seals then; see P4 of the design.
func (s *Service) unsealHere(ctx context.Context, force bool, report func(*serverpb.PromoteProgress) error) error {
	if stopped, err := s.resumeHere(ctx, force, report); stopped || err != nil {
		return err
	}
	ended, last := 0, ""
	for _, v := range s.role.VBuckets() {
		id := sealOf(v)
		if id == "" {
			continue
		}
		if !force && id != last {
			if err := s.outdate(ctx, id, false); err != nil {
				return err
			}
		}
		if _, err := sealNow(ctx, v, command.Unseal, id); err != nil {
			return err
		}
		ended, last = ended+1, id
	}
	if ended == 0 {
		return kv.Errorf(kv.Precondition, "no promotion has sealed this node, so there is none to abandon")
	}
	return report(&serverpb.PromoteProgress{Step: "abandoned", Text: "the seal of this master has ended; it accepts mutations again"})
}

// outdate makes sure that a promotion is not decided any more on the word of its seals, or
// returns why they have to last. If a log says that there is a record, the era is given by that
// only, and to a founder that seals only after the version from before its seals. Otherwise the
// founder decides by itself, without an answer of the masters only for a time.
// With stopped it is the word of the stop of this master.
func (s *Service) outdate(ctx context.Context, id string, stopped bool) error {
	record := func(v role.VBucket) bool { return (stopped || sealOf(v) == id) && hasRecord(v) }
	if slices.ContainsFunc(s.role.VBuckets(), record) || stopped && s.saidLeased() {
		return s.changeRecord(ctx, id)
	}
	if left := standby.Outlasts(promotion.SealTrust) - s.seals.age(id); left > 0 {
		return kv.Errorf(kv.Precondition, "the node that has sealed this master may still decide its promotion without asking again: try again in %v, or, if that node is certainly stopped for good, with -force (not applied)", left.Round(time.Second))
	}
	return nil
}

// saidLeased reports whether this master has said, when it stopped, that there is a record: the end
// of its log may say so, which its state does not have. The caller holds stops.mu.
func (s *Service) saidLeased() bool {
	now := s.stops.now
	return now.Holds() && now.Report != nil && now.Report.Leased
}

// recordPatience bounds the change of the record.
const recordPatience = 10 * time.Second

// changeRecord raises the version of the record, unless the era was given already.
func (s *Service) changeRecord(ctx context.Context, id string) error {
	if s.registry == nil {
		return kv.Errorf(kv.Precondition, "the log says that the database has a record in the registry, and this node asks no registry, so the founder may still be given the era: "+
			"do this at a master that does, or, if the founder is certainly stopped for good, with -force (not applied)")
	}
	ctx, cancel := context.WithTimeout(ctx, recordPatience)
	defer cancel()
	res, err := s.registry.GetRecord(ctx, &peerpb.GetRecordRequest{Database: s.node.Layout.Database})
	found := res.GetRecord()
	if err == nil && found != nil && found.GetEra() > s.era() {
		return kv.Errorf(kv.Precondition, "the record in the registry is of era %d: a promotion has replaced these masters, so their seal does not end; make this node a slave with dkvctl -rejoin (not applied)", found.GetEra())
	}
	if err == nil && found != nil {
		// A disk leaves that is not there: the version rises, if the masters are the same still.
		_, err = s.registry.ChangeRecord(ctx, &peerpb.ChangeRecordRequest{
			Record:  &peerpb.Record{Database: s.node.Layout.Database, Era: found.GetEra(), Deployment: found.GetDeployment()},
			Leaving: []string{id},
		})
	}
	if err != nil {
		return kv.Errorf(kv.Unavailable, "the founder may still be given the era by the registry, which has to know first that the seal ends: %w; "+
			"bring the registry back and try again, or, if the founder is certainly stopped for good, use -force (not applied)", err)
	}
	return nil
}

// era is that of this node's own vBuckets.
func (s *Service) era() (greatest uint64) {
	for _, history := range s.own() {
		greatest = max(greatest, era.Of(history))
	}
	return greatest
}

// seals is when this process first knew of the seals of its logs, by promotion.
type seals struct {
	mu   sync.Mutex
	seen map[string]time.Duration
}

// age returns for how long a seal is known here.
func (s *seals) age(promotion string) time.Duration {
	now := lease.SystemClock{}.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.seen[promotion]; !known {
		if s.seen == nil {
			s.seen = map[string]time.Duration{}
		}
		s.seen[promotion] = now
	}
	return now - s.seen[promotion]
}

// sealPause is how often a master looks whether it was sealed.
const sealPause = time.Second

// watchSeals notes seals until ctx ends.
func (s *Service) watchSeals(ctx context.Context) {
	for {
		if id, holds := s.holdsStop(); holds {
			s.seals.age(id)
		}
		for _, v := range s.role.VBuckets() {
			if id := sealOf(v); id != "" {
				s.seals.age(id)
			}
		}
		if !periodic.Wait(ctx, sealPause) {
			return
		}
	}
}
