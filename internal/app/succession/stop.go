package succession

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// stoppable is the role of a master that a promotion may take out of its logs.
type stoppable interface {
	Deployment() string
	Voters() ([]promotion.StoppedVBucket, error)
	Halt(ctx context.Context, reason error, copyTo func(vBucket string) string) ([]promotion.StoppedVBucket, error)
}

// stops is the promotion that has stopped this master.
type stops struct {
	mu sync.Mutex
	// now is what is on disk; nil for none.
	now *promotion.Stopped
	// ended ends the role once that has changed, with why.
	ended chan error
}

// end ends the role.
func (s *stops) end(why error) {
	select {
	case s.ended <- why:
	default: // it ends already
	}
}

// Stopped says why a master serves nothing that a promotion has stopped.
func Stopped(s *promotion.Stopped) string {
	return fmt.Sprintf("promotion %s has stopped this master, since no owner of its logs could be had: it takes no part in them until that is decided or given up; "+
		"if its founder is gone for good, end that with dkvctl -promote -abandon here", s.Promotion)
}

// haltPatience bounds how long a master may take to leave its logs.
const haltPatience = 15 * time.Second

// StopDatabase implements Standby.
func (s *Service) StopDatabase(ctx context.Context, r *peerpb.StopDatabaseRequest) (*peerpb.StopDatabaseResponse, error) {
	switch {
	case r.GetDatabase() != s.node.Layout.Database:
		return nil, kv.Errorf(kv.Precondition, "this node keeps the database %q, not %q", s.node.Layout.Database, r.GetDatabase())
	case r.GetPromotion() == "":
		return nil, kv.Errorf(kv.Invalid, "a stop needs the id of a promotion")
	case r.GetResume() && (s.founder != nil || s.part.Superseded != nil):
		return new(peerpb.StopDatabaseResponse), nil // it has become something else
	case s.founder != nil || s.part.Superseded != nil || s.node.Dir == nil:
		return nil, kv.Errorf(kv.NotOwner, "this node is %s that keeps no log with others", s.role.Name())
	}
	s.stops.mu.Lock()
	defer s.stops.mu.Unlock()
	if r.GetResume() {
		return new(peerpb.StopDatabaseResponse), s.resume(r.GetPromotion())
	}
	found, err := s.stop(r.GetPromotion(), r.GetLook())
	if err != nil {
		return nil, err
	}
	return stoppedResponse(found), nil
}

// stop takes this master out of its logs, or only looks who keeps them. The caller holds stops.mu.
func (s *Service) stop(id string, look bool) (*promotion.StoppedDatabase, error) {
	switch now := s.stops.now; {
	case now == nil:
	case now.Over(id):
		return nil, kv.Errorf(kv.Precondition, "the stop of promotion %s was ended here, and it does not stop this master again", id)
	case now.Ended:
	case now.Promotion != id:
		return nil, kv.Errorf(kv.Precondition, "another promotion has stopped this master already; end that with dkvctl -promote -abandon here, if its founder is gone")
	case now.Report == nil:
		return nil, kv.Errorf(kv.Unavailable, "this master has stopped, but failed before it knew the ends of its logs, so it does not count")
	default:
		found := *now.Report
		found.Token = now.Token
		return &found, nil
	}
	master, is := s.role.(stoppable)
	if !is {
		return nil, kv.Errorf(kv.NotOwner, "this node is %s and keeps its log alone: it can be sealed only", s.role.Name())
	}
	if err := s.mayStop(id); err != nil {
		return nil, err
	}
	found := &promotion.StoppedDatabase{Deployment: master.Deployment(), Masters: s.members(), Leased: s.lease != nil}
	for _, v := range s.role.VBuckets() {
		found.Leased = found.Leased || hasRecord(v)
	}
	voters, err := master.Voters()
	if err != nil {
		return nil, err // it would be stopped, and not count
	}
	if look {
		found.VBuckets = voters
		return found, nil
	}
	return found, s.halt(master, id, found)
}

// mayStop returns an error if another promotion may count on this master's seals, or a restore is
// in progress.
func (s *Service) mayStop(id string) error {
	for _, v := range s.role.VBuckets() {
		if by := sealOf(v); by != "" && by != id {
			return kv.Errorf(kv.Precondition, "promotion %s has sealed vBucket %s; end that with dkvctl -promote -abandon here, if its founder is gone", by, v.Name)
		}
		// Of a log without an owner, as after a crash in the middle, the restore has ended with that.
		if st := v.Status(); st.State == replica.Restoring || st.Restoring && v.Owner().Self {
			return kv.Errorf(kv.Precondition, "a restore of vBucket %s is in progress; retry when it is done", v.Name)
		}
	}
	return nil
}

// halt stops this master: durably first, and then at once. It goes on if the caller is gone.
func (s *Service) halt(master stoppable, id string, found *promotion.StoppedDatabase) error {
	now := s.stops.now.By(id)
	if err := now.Write(s.node.Dir.Path()); err != nil {
		return kv.UnknownOutcome(replica.KindOf(err), fmt.Errorf("the stop cannot be stored: %w", err))
	}
	s.stops.now = now
	s.node.Log.Warn("a promotion of another node stops this master: it takes no part in its logs any more", "promotion", id)
	defer s.stops.end(promotion.ErrStopped)
	ctx, cancel := context.WithTimeout(context.Background(), haltPatience)
	defer cancel()
	var err error
	found.VBuckets, err = master.Halt(ctx, fmt.Errorf("%s", Stopped(now)), s.tailOf)
	if err != nil {
		return kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("this master has stopped, but does not know the ends of its logs: %w", err))
	}
	if err := otherSeal(found.VBuckets, id); err != nil {
		return err
	}
	for _, v := range found.VBuckets {
		found.Leased = found.Leased || slices.ContainsFunc(v.Standbys, recorded)
	}
	known := *now
	known.Report = found
	if err := known.Write(s.node.Dir.Path()); err != nil {
		return kv.UnknownOutcome(replica.KindOf(err), fmt.Errorf("the ends of the logs cannot be stored: %w", err))
	}
	s.stops.now, found.Token = &known, now.Token
	return nil
}

// otherSeal returns an error if the end of a log has the seal of another promotion, which this master
// has not applied yet: its founder may count on that.
func otherSeal(vBuckets []promotion.StoppedVBucket, id string) error {
	for _, v := range vBuckets {
		if i := slices.IndexFunc(v.Seals, func(by string) bool { return by != id }); i >= 0 {
			return kv.Errorf(kv.Precondition, "promotion %s may have sealed vBucket %s; give that up first, with dkvctl -promote -abandon at its founder", v.Seals[i], v.Name)
		}
	}
	return nil
}

// resume has this master take part in its logs again, if a promotion has stopped it, and remembers
// that. The caller holds stops.mu.
func (s *Service) resume(id string) error {
	now := s.stops.now
	ended := now.Without(id)
	if ended == now {
		return nil // it is known
	}
	if err := ended.Write(s.node.Dir.Path()); err != nil {
		return kv.UnknownOutcome(replica.KindOf(err), fmt.Errorf("the end of the stop cannot be stored: %w", err))
	}
	s.stops.now = ended
	if now.Holds() && !ended.Holds() {
		s.node.Log.Warn("the promotion that has stopped this master was given up; it takes part in its logs again", "promotion", id)
		s.stops.end(promotion.ErrResumed)
	}
	return nil
}

// resumeHere ends a stop by hand, and reports whether there was one; see unsealHere.
func (s *Service) resumeHere(ctx context.Context, force bool, report func(*serverpb.PromoteProgress) error) (stopped bool, err error) {
	s.stops.mu.Lock()
	defer s.stops.mu.Unlock()
	now := s.stops.now
	if !now.Holds() {
		return false, nil
	}
	if !force {
		if err := s.outdate(ctx, now.Promotion, true); err != nil {
			return true, err
		}
	}
	if err := s.resume(now.Promotion); err != nil {
		return true, err
	}
	return true, report(&serverpb.PromoteProgress{Step: "abandoned", Text: "the stop of this master has ended; it takes part in its logs again"})
}

// tailPrefix begins the names of the folders with copies of states to which the ends of the logs
// were applied.
const tailPrefix = "STOPPED-"

func (s *Service) tailOf(vBucket string) string { return tailIn(s.node.Dir.Path(), vBucket) }

func tailIn(dir, vBucket string) string { return filepath.Join(dir, tailPrefix+vBucket) }

// dropTails deletes these copies.
func dropTails(dir string) error {
	names, err := datadir.Named(dir, tailPrefix)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // what opens the folder says why it cannot
		return nil
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return err
}

// stopped is the configuration of a master that a promotion has stopped: it opens no log.
func stopped(cfg *config.Config, part promotion.Part) (*config.Config, bool, error) {
	if part.Superseded == nil && part.Stopped.Holds() {
		return cfg.WithRole(config.RoleNone), true, nil
	}
	return cfg, false, dropTails(cfg.Storage.DBFolder)
}

// Lends returns which folder has the state of a vBucket that a promotion may fetch from a master
// that it has stopped; empty for the vBucket's own.
func Lends(cfg *config.Config, s *promotion.Stopped) map[string]string {
	out := map[string]string{}
	if !s.Holds() || s.Report == nil {
		return out
	}
	for _, v := range s.Report.VBuckets {
		if dir := tailIn(cfg.Storage.DBFolder, v.Name); v.Fault == "" {
			if _, err := os.Stat(dir); err == nil {
				out[v.Name] = dir
			}
		}
	}
	return out
}

func stoppedResponse(found *promotion.StoppedDatabase) *peerpb.StopDatabaseResponse {
	out := &peerpb.StopDatabaseResponse{Deployment: found.Deployment, Token: found.Token, Masters: found.Masters, Leased: found.Leased}
	for _, v := range found.VBuckets {
		to := &peerpb.StoppedVBucket{
			VBucket: v.Name, History: v.History, Replica: v.Replica, Term: v.Term, Last: v.Last, End: v.End,
			LeaseMillis: uint64((v.Lease + time.Millisecond - 1) / time.Millisecond), Fault: v.Fault, Digest: v.Digest,
		}
		for _, voters := range v.Voters {
			to.Voters = append(to.Voters, &peerpb.Voters{Replicas: voters})
		}
		out.VBuckets = append(out.VBuckets, to)
	}
	return out
}

// Stop implements promotion.Masters.
func (c *calls) Stop(ctx context.Context, address, id string) (promotion.StoppedDatabase, error) {
	return c.stop(ctx, address, &peerpb.StopDatabaseRequest{Database: c.database, Promotion: id})
}

// Keepers implements promotion.Masters.
func (c *calls) Keepers(ctx context.Context, address, id string) (promotion.StoppedDatabase, error) {
	return c.stop(ctx, address, &peerpb.StopDatabaseRequest{Database: c.database, Promotion: id, Look: true})
}

func (c *calls) stop(ctx context.Context, address string, req *peerpb.StopDatabaseRequest) (promotion.StoppedDatabase, error) {
	resp := new(peerpb.StopDatabaseResponse)
	if err := c.pool.Call(ctx, address, peerpb.Standby_StopDatabase_FullMethodName, req, resp); err != nil {
		return promotion.StoppedDatabase{}, err
	}
	out := promotion.StoppedDatabase{Deployment: resp.GetDeployment(), Token: resp.GetToken(), Masters: resp.GetMasters(), Leased: resp.GetLeased()}
	for _, v := range resp.GetVBuckets() {
		to := promotion.StoppedVBucket{
			Name: v.GetVBucket(), History: v.GetHistory(), Replica: v.GetReplica(), Term: v.GetTerm(), Last: v.GetLast(), End: v.GetEnd(),
			Lease: time.Duration(v.GetLeaseMillis()) * time.Millisecond, Fault: v.GetFault(), Digest: v.GetDigest(),
		}
		for _, voters := range v.GetVoters() {
			to.Voters = append(to.Voters, voters.GetReplicas())
		}
		out.VBuckets = append(out.VBuckets, to)
	}
	return out, nil
}

// Resume implements promotion.Masters.
func (c *calls) Resume(ctx context.Context, address, id string) error {
	req := &peerpb.StopDatabaseRequest{Database: c.database, Promotion: id, Resume: true}
	return c.pool.Call(ctx, address, peerpb.Standby_StopDatabase_FullMethodName, req, new(peerpb.StopDatabaseResponse))
}

// holdsStop reports whether a promotion has stopped this master, and which.
func (s *Service) holdsStop() (id string, holds bool) {
	s.stops.mu.Lock()
	defer s.stops.mu.Unlock()
	if now := s.stops.now; now.Holds() {
		return now.Promotion, true
	}
	return "", false
}
