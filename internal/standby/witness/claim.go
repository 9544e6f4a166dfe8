package witness

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// Claim gives the record to the masters of this node, because an operator says that no others
// answer. history is that of the first vBucket. It returns what was done.
func (k *Keeper) Claim(ctx context.Context, history string) (string, error) {
	self := k.opts.Masters()
	if self.Deployment == "" {
		return "", kv.Errorf(kv.Unavailable, "this node does not know yet which masters it belongs to (not applied)")
	}
	res, err := k.opts.Registry.GetRecord(ctx, &peerpb.GetRecordRequest{Database: k.opts.Database})
	found := res.GetRecord()
	switch {
	case err != nil && kv.KindOf(err) != kv.Corrupt:
		return "", err
	case found.GetEra() > self.Era:
		return "", kv.Errorf(kv.Precondition, "the record is of era %d, and this node of era %d: a promotion has replaced it; make it a slave with dkvctl -rejoin (not applied)", found.GetEra(), self.Era)
	case found != nil && found.GetEra() == self.Era && found.GetDeployment() == self.Deployment:
		return fmt.Sprintf("the record names these masters already, with era %d", self.Era), nil
	}
	given, err := k.opts.Registry.Claim(ctx, &peerpb.ClaimRequest{
		Database: k.opts.Database, Era: found.GetEra(), Version: found.GetVersion(), Promotion: self.Deployment, History: history,
		Addresses: []string{k.opts.Address}, Force: true, Becomes: self.Era, LeaseMillis: uint64(k.opts.Lease.Milliseconds()),
	})
	switch {
	case err != nil:
		return "", err
	case !given.GetGiven():
		return "", kv.Errorf(kv.Precondition, "the registry does not give the record: %s (not applied)", given.GetReason())
	}
	return fmt.Sprintf("the record names these masters now, with era %d", self.Era), nil
}

// EndLeases has the record say that the masters need no lease, so that no standby can replace
// them without a fence. Its version rises even if it says so already: a change that another
// owner prepares fits no more.
func EndLeases(ctx context.Context, r Registry, database string, self Masters) error {
	res, err := r.GetRecord(ctx, &peerpb.GetRecordRequest{Database: database})
	found := res.GetRecord()
	switch {
	case err != nil:
		return err
	case found == nil:
		return nil
	case found.GetEra() != self.Era || found.GetDeployment() != self.Deployment:
		return kv.Errorf(kv.Precondition, "the record in the registry is of era %d and masters %s, not of era %d and masters %s of this node (not applied)",
			found.GetEra(), found.GetDeployment(), self.Era, self.Deployment)
	}
	_, err = r.ChangeRecord(ctx, &peerpb.ChangeRecordRequest{Expected: found.GetVersion(), Record: &peerpb.Record{
		Database: database, Era: self.Era, Deployment: self.Deployment, History: self.History, Addresses: found.GetAddresses(),
	}})
	return err
}
