package succession

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/standby/witness"
)

// record is the record in the registry as a slave uses it.
type record struct {
	witness.Candidate
	// address is where the node serves gRPC.
	address string
}

// newRecord returns nil for a slave that asks no registry, or has no disk.
func newRecord(n *node.Node, pool *peer.Pool, s Slave) (*record, error) {
	if n.Config.Discovery.Disabled || n.Dir == nil {
		return nil, nil
	}
	disk, err := n.Dir.DiskID()
	if err != nil {
		return nil, err
	}
	lease := standby.LeaseOf(n.Config.Replication.AutoPromoteAfter)
	return &record{
		Candidate: witness.Candidate{
			Registry: witness.NewClient(pool, n.Config.Discovery.Client.Addrs, lease),
			Database: n.Layout.Database,
			Disk:     disk,
			Lease:    lease,
			Era:      func() uint64 { return eraOf(s) },
		},
		address: n.Info.Address,
	}, nil
}

// eraOf is the era that the copies of a slave are of.
func eraOf(s Slave) (greatest uint64) {
	for _, v := range s.VBuckets() {
		greatest = max(greatest, era.Of(v.Status().Identity.History))
	}
	return greatest
}

// Record implements promotion.Registry.
func (r *record) Record(ctx context.Context) (*promotion.Claim, error) {
	res, err := r.Registry.GetRecord(ctx, &peerpb.GetRecordRequest{Database: r.Database})
	found := res.GetRecord()
	if err != nil || found == nil {
		return nil, err
	}
	claim := &promotion.Claim{Era: found.GetEra(), Version: found.GetVersion()}
	for _, n := range found.GetStandbys() {
		switch {
		case found.GetLeaseMillis() == 0:
		case n.GetDisk() == r.Disk:
			claim.Standby, claim.Synced = true, kv.Ack(n.GetLevel()) >= kv.AckSync
			fallthrough
		default:
			claim.At = append(claim.At, n.GetAddress())
		}
	}
	return claim, nil
}

// Claim implements promotion.Registry.
func (r *record) Claim(ctx context.Context, c promotion.Claim, p promotion.Record) (promotion.Verdict, error) {
	req := &peerpb.ClaimRequest{
		Database: r.Database, Era: c.Era, Version: c.Version, Disks: []string{r.Disk},
		Promotion: p.NewMasters(), History: p.History, Addresses: p.Addresses(),
		Fenced: p.Sealed(), Force: p.Force,
	}
	if len(req.Addresses) == 0 {
		req.Addresses = []string{r.address}
	}
	if p.Force {
		req.Becomes = p.Era
	}
	res, err := r.Registry.Claim(ctx, req)
	if err != nil {
		return promotion.Verdict{}, err
	}
	return promotion.Verdict{Given: res.GetGiven() || gave(res.GetRecord(), p), Reason: res.GetReason(), Retry: time.Duration(res.GetRetryMillis()) * time.Millisecond}, nil
}

// gave reports whether a record is that of a claim which the release before sent: that named the
// masters of a set by their promotion, too.
func gave(found *peerpb.Record, p promotion.Record) bool {
	return found != nil && found.GetEra() == p.Era && found.GetDeployment() == p.ID
}

// Withdraw implements promotion.Registry: taking this disk out of the record raises the version,
// so that no claim of the one before fits.
func (r *record) Withdraw(ctx context.Context, c promotion.Claim, p promotion.Record) (given bool, err error) {
	res, err := r.Registry.GetRecord(ctx, &peerpb.GetRecordRequest{Database: r.Database})
	found := res.GetRecord()
	if err != nil {
		return false, err
	}
	if found.GetEra() != c.Era || found.GetVersion() != c.Version {
		return found.GetDeployment() == p.NewMasters() || gave(found, p), nil
	}
	_, err = r.Registry.ChangeRecord(ctx, &peerpb.ChangeRecordRequest{
		Record:  &peerpb.Record{Database: r.Database, Era: found.GetEra(), Deployment: found.GetDeployment()},
		Leaving: []string{r.Disk},
	})
	return false, err
}

// status says in a sentence what the record means for the slave.
func (r *record) status() string { return r.Seen() }

// claimAgain is the pause after a promotion without an operator that has failed.
const claimAgain = time.Second

// runFounder serves promotions until ctx ends, and begins one itself when the registry lets
// this slave replace masters that have lost their leases.
func (s *Service) runFounder(ctx context.Context) error {
	if s.record == nil || s.node.Config.Replication.AutoPromoteAfter == 0 {
		return s.founder.Run(ctx)
	}
	ctx, end := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { defer close(watched); s.watchForClaim(ctx) }()
	defer func() { end(); <-watched }()
	return s.founder.Run(ctx)
}

func (s *Service) watchForClaim(ctx context.Context) {
	for {
		of, err := s.record.WatchForClaim(ctx)
		if err != nil {
			return // ctx has ended
		}
		s.node.Log.Warn("no master has a lease of the registry any more; this slave, which stands by, takes over", "era", of.GetEra()+1, "masters", of.GetAddresses())
		if err := s.founder.Promote(ctx, promotion.Request{Standby: true}, nil); err != nil && ctx.Err() == nil {
			s.node.Log.Warn("this slave has not taken over; it is tried again while the registry lets it", "error", err)
		}
		if !sleep.For(ctx, claimAgain) {
			return
		}
	}
}

// hearOfRecord asks the masters that the registry names whether this node has to yield to
// them, until it has yielded or ctx ends.
func (s *Service) hearOfRecord(ctx context.Context) {
	select {
	case <-s.lease.Superseded():
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		err := s.former.Hear(ctx, s.lease.Record().GetAddresses(), false)
		if err == nil {
			return
		}
		s.node.Log.Warn("the registry has a record of a later era, but this node does not yield yet; it answers nothing", "error", err)
		sleep.For(ctx, claimAgain)
	}
}
