package witness

import (
	"context"
	"slices"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// Read returns the record as it is now, of this node's masters; nil if there is none.
func (k *Keeper) Read(ctx context.Context) (*peerpb.Record, error) {
	res, err := k.opts.Registry.GetRecord(ctx, &peerpb.GetRecordRequest{Database: k.opts.Database})
	if err != nil {
		return nil, err
	}
	self, record := k.opts.Masters(), res.GetRecord()
	if record != nil && (record.GetEra() != self.Era || record.GetDeployment() != self.Deployment) {
		return nil, kv.Errorf(kv.Precondition, "the record of database %q in the registry is of era %d and deployment %s, not of era %d and deployment %s",
			k.opts.Database, record.GetEra(), record.GetDeployment(), self.Era, self.Deployment)
	}
	return record, nil
}

// Enter enters a node into the record as a standby, if the record still is the one that Read
// has returned. The caller has seen in between, at every vBucket's owner, that the node is
// standing.
func (k *Keeper) Enter(ctx context.Context, read *peerpb.Record, node *peerpb.StandbyNode) error {
	if read == nil {
		return kv.Errorf(kv.Precondition, "database %q has no record in the registry that a standby could be entered into", k.opts.Database)
	}
	to := k.wanted(k.opts.Masters(), read)
	to.LeaseMillis = read.GetLeaseMillis()
	to.Standbys = slices.DeleteFunc(slices.Clone(to.Standbys), func(n *peerpb.StandbyNode) bool { return n.GetDisk() == node.GetDisk() })
	to.Standbys = append(to.Standbys, node)
	_, err := k.opts.Registry.ChangeRecord(ctx, &peerpb.ChangeRecordRequest{Record: to, Expected: read.GetVersion()})
	return err
}

// Remove takes disks out of the record's standbys. Its version rises also if they are not
// there: an entry that is being prepared fails then.
func (k *Keeper) Remove(ctx context.Context, disks ...string) error {
	self := k.opts.Masters()
	_, err := k.opts.Registry.ChangeRecord(ctx, &peerpb.ChangeRecordRequest{
		Record:  &peerpb.Record{Database: k.opts.Database, Era: self.Era, Deployment: self.Deployment},
		Leaving: disks,
	})
	return err
}
