package standbys

import (
	"context"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/witness"
)

// Claim gives the record to the masters of this node, or ends that they need its lease if the
// node is configured without. It returns what was done.
func (s *Standbys) Claim(ctx context.Context) (string, error) {
	if s == nil {
		return "", kv.Errorf(kv.Precondition, "a node of the registry owns no database (not applied)")
	}
	if s.record != nil {
		return s.record.keeper.Claim(ctx, s.logs[0].History())
	}
	leased := false
	for _, l := range s.logs {
		set, _, err := l.Set()
		switch {
		case err != nil:
			return "", err
		case !l.Owned():
			return "", kv.Errorf(kv.Precondition, "this node does not own vBucket %s; ask the leader (not applied)", l.VBucket())
		}
		leased = leased || set.Leased
	}
	if !leased {
		return "", kv.Errorf(kv.Precondition, "the masters of this database need no lease of the registry, and this node asks for none (auto-promote-after); there is nothing to claim (not applied)")
	}
	return s.endLeases(ctx)
}

func (s *Standbys) endLeases(ctx context.Context) (string, error) {
	calls, err := s.node.Calls()
	if err != nil {
		return "", err
	}
	pool := peer.NewPool(calls)
	defer pool.Close()
	registry := witness.NewClient(pool, s.node.Config.Discovery.Client.Addrs, 0)
	if err := witness.EndLeases(ctx, registry, s.node.Layout.Database, s.masters()); err != nil {
		return "", fmt.Errorf("the registry has to know first that no lease is needed: %w", err)
	}
	for i := range s.logs {
		if err := s.change(ctx, i, func(set *standby.Set) { set.Leased = false }); err != nil {
			return "", err
		}
	}
	return "the masters of this database answer without the registry's lease now; remove auto-promote-after from all nodes", nil
}

// Record says in a sentence what the record means for a master; empty if it needs none.
func (r *record) status() string {
	found := r.keeper.Record()
	text := fmt.Sprintf("era %d", found.GetEra())
	if err := r.keeper.Held(); err != nil {
		return text + ", no lease: " + err.Error()
	}
	text += fmt.Sprintf(", lease for %v", r.keeper.Remaining().Round(10*time.Millisecond))
	if len(found.GetStandbys()) == 0 {
		return text + ", no standby may take over"
	}
	for _, n := range found.GetStandbys() {
		text += ", standby " + n.GetAddress()
	}
	return text
}
