package witness

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// errIdle is why a node without a log has no lease: there is nothing that it could answer, and
// its lease would keep the standby from taking over from masters that are gone.
var errIdle = kv.Errorf(kv.Unavailable, "this node owns the log of no vBucket, so it asks for no lease of the registry")

// idle looks at the record without asking for a lease.
func (k *Keeper) idle(ctx context.Context, self Masters) error {
	res, err := k.opts.Registry.GetRecord(ctx, &peerpb.GetRecordRequest{Database: k.opts.Database})
	k.silent.Store(err != nil)
	switch {
	case err != nil:
		return k.failed(k.Record(), errIdle)
	case res.GetRecord().GetEra() > self.Era:
		return k.failed(res.GetRecord(), k.refused(ctx, self, res.GetRecord()))
	default:
		return k.failed(res.GetRecord(), errIdle)
	}
}

// owned returns the gates of the logs that this node owns.
func (k *Keeper) owned() []*Gate {
	return slices.DeleteFunc(slices.Clone(k.gates), func(g *Gate) bool { return !g.log.Owned() })
}

// look is how often it is looked for logs that were gained without a signal.
const look = 50 * time.Millisecond

// rest waits for the next renewal, which follows at once after a log was gained: it answers
// nothing before it was looked at.
func (k *Keeper) rest(ctx context.Context, pause time.Duration) {
	for end := time.Now().Add(pause); ; {
		changed, answered := k.opts.Changed.Changed(), k.answered.Changed()
		left := time.Until(end)
		if left <= 0 || slices.ContainsFunc(k.gates, (*Gate).ready) {
			return
		}
		t := time.NewTimer(min(left, look))
		select {
		case <-changed:
		case <-answered:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
	}
}

// listed takes the standbys out of the record that owners may not wait for, and returns the record
// without them: those that do not stand in each of some logs, at their level at least, and all of a
// record that is older than newest, which was known before the registry was asked: it was restored
// from a backup. Those that stand are entered again. It returns the logs of which all that was
// certain in their present tenure.
func (k *Keeper) listed(ctx, life context.Context, record *peerpb.Record, newest uint64, accepting []*Gate) (*peerpb.Record, []*Gate, error) {
	err := k.lookAgain(life, record, accepting)
	listed := slices.DeleteFunc(slices.Clone(accepting), func(g *Gate) bool { return !g.said.of(record, g.log) })
	var gone []string
	for _, g := range listed {
		gone = g.said.unlisted(record.GetStandbys(), gone)
	}
	back := record.GetVersion() < newest
	if back {
		gone = disksOf(record)
		k.opts.Log.Warn("the registry's record has gone back, as after a restore of the registry; its standbys are entered again", "version", record.GetVersion(), "known", newest)
	}
	left := record
	if len(gone) > 0 {
		var failed error
		if left, failed = k.leave(ctx, gone); failed != nil {
			return record, nil, kv.Errorf(kv.Unavailable, "the record of database %q in the registry names standbys that the logs may not wait for, and they cannot be taken out yet: %w", k.opts.Database, failed)
		}
		k.opts.Log.Warn("the registry's record named standbys that the logs may not wait for; they were taken out", "disks", gone)
	}
	k.learn(left.GetVersion(), back)
	if len(listed) == 0 {
		return left, nil, cmp.Or(err, errTenures)
	}
	return left, listed, nil
}

// errTenures is why a renewal comes to nothing whose logs have all got another owner meanwhile.
var errTenures error = kv.Errorf(kv.Unavailable, "the owners of this node's logs have changed meanwhile")

// lookAgain asks the logs that have not answered since the record was known, in their present
// tenure.
func (k *Keeper) lookAgain(life context.Context, record *peerpb.Record, accepting []*Gate) error {
	again := slices.DeleteFunc(slices.Clone(accepting), func(g *Gate) bool { return g.said.of(record, g.log) })
	if len(again) == 0 {
		return nil
	}
	_, err := k.inquire(life, again, record)
	return err
}
