package witness

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
)

// errIdle is why a node without a log has no lease: there is nothing that it could answer, and
// its lease would keep the standby from taking over from masters that are gone.
var errIdle = kv.Errorf(kv.Unavailable, "this node owns the log of no vBucket, so it asks for no lease of the registry")

// idle looks at the record without asking for a lease.
func (k *Keeper) idle(ctx context.Context, self Masters) error {
	res, err := k.opts.Registry.GetRecord(ctx, &peerpb.GetRecordRequest{Database: k.opts.Database})
	k.silent = err != nil
	switch {
	case err != nil:
		return k.failed(k.Record(), errIdle)
	case res.GetRecord().GetEra() > self.Era:
		return k.failed(res.GetRecord(), k.refused(ctx, self, res.GetRecord()))
	default:
		return k.failed(res.GetRecord(), errIdle)
	}
}

// look is how often a node without a log looks whether it has got one.
const look = 50 * time.Millisecond

// rest waits for the next renewal, or until a node without a log has got one.
func (k *Keeper) rest(ctx context.Context, pause time.Duration) {
	if len(k.opts.Standing.Owned()) > 0 {
		sleep.For(ctx, pause)
		return
	}
	for ; pause > 0 && ctx.Err() == nil && len(k.opts.Standing.Owned()) == 0; pause -= look {
		sleep.For(ctx, min(pause, look))
	}
}

// known reports whether the first log says that there has been a record. It comes before the
// request: an owner whose log accepts nothing can answer nothing, and gets no lease.
func (k *Keeper) known(ctx context.Context) (bool, error) {
	if !k.opts.Standing.Owns() {
		if err := k.opts.Standing.Accept(ctx); err != nil {
			return false, kv.Errorf(kv.Unavailable, "whether this node still owns its logs is not known: %w", err)
		}
		return false, nil
	}
	was, err := k.opts.Standing.Registered(ctx)
	if err != nil {
		return false, kv.Errorf(kv.Unavailable, "whether the log says that database %q has a record in the registry is not known: %w", k.opts.Database, err)
	}
	return was, nil
}

// listed takes the standbys out of the record that do not stand in each log of this node, and
// returns the record without them: owners do not wait for those. It asks the logs whenever the
// record, or what the node owns, is not what it was at the last renewal.
func (k *Keeper) listed(ctx context.Context, record *peerpb.Record, owned []string) (*peerpb.Record, error) {
	if proto.Equal(k.checked, record) && slices.Equal(k.of, owned) {
		return record, nil
	}
	if standbys := record.GetStandbys(); len(standbys) > 0 {
		gone, err := k.opts.Standing.Unlisted(ctx, standbys)
		if err != nil {
			return record, kv.Errorf(kv.Unavailable, "whether the logs of this node list the standbys of the registry's record is not known: %w", err)
		}
		if len(gone) > 0 {
			left, err := k.leave(ctx, gone)
			if err != nil {
				return record, kv.Errorf(kv.Unavailable, "the record of database %q in the registry names standbys that the logs do not wait for, and they cannot be taken out yet: %w", k.opts.Database, err)
			}
			k.opts.Log.Warn("the registry's record named standbys that the logs do not wait for; they were taken out", "disks", gone)
			record = left
		}
	}
	k.checked, k.of = record, owned
	return record, nil
}
