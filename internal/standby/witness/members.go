package witness

import (
	"context"
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/keeper"
)

var _ keeper.Record = (*Keeper)(nil)

// read returns the record as it is now, which is that of this node's masters.
func (k *Keeper) read(ctx context.Context) (*peerpb.Record, error) {
	res, err := k.opts.Registry.GetRecord(ctx, &peerpb.GetRecordRequest{Database: k.opts.Database})
	if err != nil {
		return nil, err
	}
	self, record := k.opts.Masters(), res.GetRecord()
	switch {
	case record == nil:
		return nil, kv.Errorf(kv.Precondition, "database %q has no record in the registry that a standby could be entered into", k.opts.Database)
	case record.GetEra() != self.Era || record.GetDeployment() != self.Deployment:
		return nil, kv.Errorf(kv.Precondition, "the record of database %q in the registry is of era %d and deployment %s, not of era %d and deployment %s",
			k.opts.Database, record.GetEra(), record.GetDeployment(), self.Era, self.Deployment)
	default:
		k.mu.Lock()
		defer k.mu.Unlock()
		k.record, k.newest = record, max(k.newest, record.GetVersion())
		return record, nil
	}
}

// Names implements keeper.Record.
func (k *Keeper) Names(disk string) bool {
	return slices.Contains(disksOf(k.Record()), disk)
}

// Unlevelled implements keeper.Record.
func (k *Keeper) Unlevelled(disk string) bool {
	return slices.ContainsFunc(k.Record().GetStandbys(), func(n *peerpb.StandbyNode) bool { return n.GetDisk() == disk && n.GetLevel() == 0 })
}

// Remaining returns for how long the lease lasts; 0 without one.
func (k *Keeper) Remaining() time.Duration {
	return max(time.Duration(k.until.Load())-k.clock.Now(), 0)
}

// Enter implements keeper.Record.
func (k *Keeper) Enter(ctx context.Context, n standby.Node, standing func(context.Context) (kv.Ack, error)) error {
	read, err := k.read(ctx)
	if err != nil {
		return err
	}
	same := func(o *peerpb.StandbyNode) bool { return o.GetDisk() == n.Disk }
	i := slices.IndexFunc(read.GetStandbys(), same)
	there := i >= 0 && read.GetStandbys()[i].GetAddress() == n.Address
	if there && read.GetStandbys()[i].GetLevel() != 0 {
		return nil
	}
	level, err := standing(ctx)
	if err != nil || there && level == kv.AckDefault {
		return err
	}
	to := k.wanted(k.opts.Masters(), read)
	to.LeaseMillis = read.GetLeaseMillis()
	to.Standbys = append(slices.DeleteFunc(slices.Clone(to.Standbys), same), &peerpb.StandbyNode{Disk: n.Disk, Address: n.Address, Level: uint32(level)})
	_, err = k.change(ctx, &peerpb.ChangeRecordRequest{Record: to, Expected: read.GetVersion()})
	return err
}

// change changes the record, and returns what it is then. A record that is older than that was
// restored, see listed.
func (k *Keeper) change(ctx context.Context, req *peerpb.ChangeRecordRequest) (*peerpb.Record, error) {
	res, err := k.opts.Registry.ChangeRecord(ctx, req)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.record, k.newest = res.GetRecord(), max(k.newest, res.GetRecord().GetVersion())
	return res.GetRecord(), nil
}

// Leaving implements keeper.Record: an entry that is being prepared fails then.
func (k *Keeper) Leaving(ctx context.Context, disks []string) error {
	_, err := k.leave(ctx, disks)
	return err
}

// leave takes disks out of the record, and returns what that is then.
func (k *Keeper) leave(ctx context.Context, disks []string) (*peerpb.Record, error) {
	self := k.opts.Masters()
	return k.change(ctx, &peerpb.ChangeRecordRequest{
		Record:  &peerpb.Record{Database: k.opts.Database, Era: self.Era, Deployment: self.Deployment},
		Leaving: disks,
	})
}

// disksOf returns the disks of a record's standbys.
func disksOf(r *peerpb.Record) []string {
	var out []string
	for _, n := range r.GetStandbys() {
		out = append(out, n.GetDisk())
	}
	return out
}
