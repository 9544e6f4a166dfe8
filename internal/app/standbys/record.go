package standbys

import (
	"context"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/confirm"
	"github.com/dkvdb/dkv/internal/standby/keeper"
	"github.com/dkvdb/dkv/internal/standby/witness"
)

// record is a master's side of the record in the registry: it keeps the lease without which
// the node answers nothing.
type record struct {
	*Standbys
	keeper *witness.Keeper
	pool   *peer.Pool
}

func newRecord(s *Standbys) (*record, error) {
	calls, err := s.node.Calls()
	if err != nil {
		return nil, err
	}
	r := &record{Standbys: s, pool: peer.NewPool(calls)}
	s.node.OnClose(r.pool.Close)
	cfg := s.node.Config
	lease := standby.LeaseOf(cfg.Replication.AutoPromoteAfter)
	r.keeper = witness.New(witness.Options{
		Registry: witness.NewClient(r.pool, cfg.Discovery.Client.Addrs, lease),
		Database: s.node.Layout.Database,
		Address:  s.node.Info.Address,
		Lease:    lease,
		Masters:  s.masters,
		Standing: first{s},
		Changed:  &s.node.Changed,
		Log:      s.node.Log,
	})
	return r, nil
}

// masters are the deployment that this node belongs to.
func (s *Standbys) masters() witness.Masters {
	history := s.logs[0].History()
	m := witness.Masters{Era: era.Of(history), Deployment: s.node.Info.Cluster}
	if m.Era > 0 {
		m.History = history
	}
	if s.node.Promotion != "" {
		m.Deployment = s.node.Promotion
	}
	if s.record != nil {
		m.Deployment = namedBy(s.record.keeper.Record(), m, s.node.SetPromotion)
	}
	return m
}

// namedBy returns the id by which the record as it was last seen names masters: a set that the
// release before has promoted by the promotion. With dkvctl -claim at a member that was added
// later, which does not know that, it names them by their cluster.
func namedBy(found *peerpb.Record, m witness.Masters, promotion string) string {
	if promotion != "" && found.GetDeployment() == promotion && found.GetEra() == m.Era {
		return promotion
	}
	return m.Deployment
}

func (r *record) run(ctx context.Context) { _ = r.keeper.Run(ctx) } // it ends with ctx only

// standingHere returns what the logs that this node owns say of a disk, after all that was
// proposed before.
func (s *Standbys) standingHere(ctx context.Context, disk string) ([]*peerpb.StandingOf, error) {
	var out []*peerpb.StandingOf
	err := s.setsHere(ctx, func(name string, set standby.Set) {
		n, _ := set.Find(disk)
		out = append(out, &peerpb.StandingOf{VBucket: name, Standing: n.Phase == standby.Standing, Address: n.Address, Leased: set.Leased, Level: uint32(set.Level)})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// setsHere calls use with the standing sets of the logs that this node owns, after all that was
// proposed before.
func (s *Standbys) setsHere(ctx context.Context, use func(vBucket string, set standby.Set)) error {
	for i, l := range s.logs {
		if !l.Owned() {
			continue
		}
		set, err := s.setHere(ctx, i)
		if err != nil {
			return fmt.Errorf("vBucket %s: %w", l.VBucket(), err)
		}
		use(l.VBucket(), set)
	}
	return nil
}

// setHere returns the standing set of a log that this node owns, after all that was proposed
// before. A change of a set that is not there is rejected in the order of the log: what this node
// has applied then is no older than the question, and it still owns the log.
func (s *Standbys) setHere(ctx context.Context, i int) (standby.Set, error) {
	res, err := s.kept[i].Propose(ctx, &command.Command{Kind: command.SetStandbys, Delta: never, Expect: (&standby.Set{}).Record()})
	if err == nil && res.Code != command.NotUpdated {
		err = kv.Errorf(kv.Unavailable, "the log does not accept the question at present: %v", res.Code)
	}
	if err != nil {
		return standby.Set{}, err
	}
	set, _, err := s.logs[i].Set()
	return set, err
}

// never is an index at which no standing set was changed.
const never = 1<<63 - 1

// everywhere asks the owners of all vBuckets what their logs say of a disk. It returns the
// error of the first vBucket that check does not accept, or whose owner does not answer.
func (s *Standbys) everywhere(ctx context.Context, disk string, check func(*peerpb.StandingOf) error) error {
	asked := map[string][]*peerpb.StandingOf{}
	for _, l := range s.logs {
		owner := l.Owner()
		at := owner.Address
		if owner.Self {
			at = ""
		} else if at == "" {
			return kv.Errorf(kv.Unavailable, "vBucket %s: its owner is not known", l.VBucket())
		}
		found, done := asked[at]
		if !done {
			var err error
			if found, err = s.ask(ctx, at, disk); err != nil {
				return err
			}
			asked[at] = found
		}
		if err := checked(l.VBucket(), found, check); err != nil {
			return fmt.Errorf("vBucket %s: %w", l.VBucket(), err)
		}
	}
	return nil
}

func checked(name string, found []*peerpb.StandingOf, check func(*peerpb.StandingOf) error) error {
	for _, f := range found {
		if f.GetVBucket() == name {
			return check(f)
		}
	}
	return kv.Errorf(kv.Unavailable, "it has another owner by now")
}

// ask asks the owner at an address, which is this node if it is empty.
func (s *Standbys) ask(ctx context.Context, at, disk string) ([]*peerpb.StandingOf, error) {
	if at == "" {
		return s.standingHere(ctx, disk)
	}
	resp := new(peerpb.GetStandingResponse)
	req := &peerpb.GetStandingRequest{Database: s.node.Layout.Database, Disk: disk}
	if err := s.pool.Call(ctx, at, peerpb.Standby_GetStanding_FullMethodName, req, resp); err != nil {
		return nil, fmt.Errorf("ask the owner at %s: %w", at, err)
	}
	return resp.GetVBuckets(), nil
}

// errUnleased keeps a standby out of the record: an owner may still answer without the lease.
var errUnleased = kv.Errorf(kv.Unavailable, "its log does not say yet that answers need the lease")

// standing returns the least level at which the owners of all vBuckets wait for a node that
// stands in their logs; see keeper.Options.
func (r *record) standing(ctx context.Context, n standby.Node) (least kv.Ack, err error) {
	least = kv.AckAll
	err = r.everywhere(ctx, n.Disk, func(f *peerpb.StandingOf) error {
		least = min(least, kv.Ack(f.GetLevel()))
		switch {
		case !f.GetStanding() || f.GetAddress() != n.Address:
			return fmt.Errorf("the slave at %s: %w", n.Address, keeper.ErrElsewhere)
		case !f.GetLeased():
			return errUnleased
		}
		return nil
	})
	return least, err
}

// first is what the logs of this node say of the record; see witness.Standing.
type first struct{ *Standbys }

// Logs implements witness.Standing.
func (f first) Logs() (out []witness.Log) {
	for i, l := range f.logs {
		out = append(out, asked{l, f.Standbys, i})
	}
	return out
}

// asked is the log of a vBucket, which can be asked for its standing set.
type asked struct {
	*confirm.Log
	standbys *Standbys
	i        int
}

// Ask implements witness.Log.
func (a asked) Ask(ctx context.Context) (standby.Set, error) { return a.standbys.setHere(ctx, a.i) }

// SetRegistered implements witness.Standing.
func (f first) SetRegistered(ctx context.Context) error {
	return f.change(ctx, 0, func(s *standby.Set) { s.Registered = true })
}

// betweenChanges is the pause after a change that another one was faster than.
const betweenChanges = 20 * time.Millisecond

// change changes the set of a vBucket, whatever else changes it meanwhile.
func (s *Standbys) change(ctx context.Context, i int, how func(*standby.Set)) error {
	for ctx.Err() == nil {
		set, over, err := s.logs[i].Set()
		if err != nil {
			return err
		}
		how(&set)
		res, err := s.kept[i].Propose(ctx, &command.Command{Kind: command.SetStandbys, Expect: set.Record(), Delta: int64(over)})
		if err != nil {
			return err
		}
		s.logs[i].Refresh()
		if res.Code == command.OK {
			return nil
		}
		sleep.For(ctx, betweenChanges) // what else changes the set gets its turn
	}
	return ctx.Err()
}

// Leased implements witness.Standing.
func (f first) Leased(ctx context.Context) error {
	return f.everywhere(ctx, "", func(of *peerpb.StandingOf) error {
		if !of.GetLeased() {
			return errUnleased
		}
		return nil
	})
}
