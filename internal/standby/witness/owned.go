package witness

import (
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

// listed takes the standbys out of the record that do not stand in each of some logs, at their
// level at least, and returns the record without them: owners do not wait for those. It returns
// the logs of which that was certain in their present tenure.
func (k *Keeper) listed(ctx, life context.Context, record *peerpb.Record, accepting []*Gate) (*peerpb.Record, []*Gate, error) {
	var again []*Gate
	for _, g := range accepting {
		if !g.said.of(record, g.log) {
			again = append(again, g)
		}
	}
	if len(again) > 0 {
		if _, err := k.inquire(life, again, record); err != nil && len(again) == len(accepting) {
			return record, nil, err
		}
	}
	listed := slices.DeleteFunc(slices.Clone(accepting), func(g *Gate) bool { return !g.said.of(record, g.log) })
	if len(listed) == 0 {
		return record, nil, kv.Errorf(kv.Unavailable, "whether the logs of this node list the standbys of the registry's record is not known: their owners have changed meanwhile")
	}
	var gone []string
	for _, g := range listed {
		gone = g.said.unlisted(record.GetStandbys(), gone)
	}
	if len(gone) == 0 {
		return record, listed, nil
	}
	left, err := k.leave(ctx, gone)
	if err != nil {
		return record, nil, kv.Errorf(kv.Unavailable, "the record of database %q in the registry names standbys that the logs do not wait for, and they cannot be taken out yet: %w", k.opts.Database, err)
	}
	k.opts.Log.Warn("the registry's record named standbys that the logs do not wait for; they were taken out", "disks", gone)
	return left, listed, nil
}
