package standbys

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
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
	calls, err := s.node.Calls()
	if err != nil {
		return "", err
	}
	pool := peer.NewPool(calls)
	defer pool.Close()
	registry := witness.NewClient(pool, s.node.Config.Discovery.Client.Addrs, 0)
	return s.endLeases(ctx, func() error {
		return witness.EndLeases(ctx, registry, s.node.Layout.Database, s.masters())
	})
}

// endLeases ends that the logs that this node owns need the lease; other owners do that for
// theirs. empty takes the length of leases and all standbys out of the record.
//
// The first log comes first: a standby is entered into the record only while all logs say that
// their owners need the lease. The record is emptied before each log, for what another owner may
// have prepared before, and again after the last.
func (s *Standbys) endLeases(ctx context.Context, empty func() error) (string, error) {
	leased, others, err := s.leasedHere()
	if err != nil {
		return "", err
	}
	if !s.logs[0].Owned() {
		if err := s.firstEnded(ctx); err != nil {
			return "", err
		}
	}
	emptied := func() error {
		if err := empty(); err != nil {
			return fmt.Errorf("the registry has to know that no lease is needed: %w", err)
		}
		return nil
	}
	for _, i := range leased {
		if err := emptied(); err != nil {
			return "", err
		}
		if err := s.change(ctx, i, func(set *standby.Set) { set.Leased = false }); err != nil {
			return "", fmt.Errorf("vBucket %s: %w", s.logs[i].VBucket(), err)
		}
	}
	if err := emptied(); err != nil {
		return "", err
	}
	if len(others) > 0 {
		return "the vBuckets that this node owns answer without the registry's lease now; repeat this at the owners of the others: " + strings.Join(others, ", "), nil
	}
	return "the masters of this database answer without the registry's lease now; remove auto-promote-after from all nodes", nil
}

// leasedHere returns the logs that this node owns and that say that their owners need the lease,
// by position, and the others that say so, each with its owner.
func (s *Standbys) leasedHere() (here []int, others []string, err error) {
	owned := 0
	for i, l := range s.logs {
		set, _, err := l.Set()
		owner := l.Owner()
		switch {
		case err != nil:
			return nil, nil, err
		case owner.Self:
			owned++
			if set.Leased {
				here = append(here, i)
			}
		case set.Leased:
			others = append(others, fmt.Sprintf("%s (%s)", l.VBucket(), cmp.Or(owner.Address, "none at present")))
		}
	}
	switch {
	case len(here) > 0:
		return here, others, nil
	case owned > 0 && len(others) == 0:
		return nil, nil, kv.Errorf(kv.Precondition, "the masters of this database need no lease of the registry, and this node asks for none (auto-promote-after); there is nothing to claim (not applied)")
	case owned > 0:
		return nil, nil, kv.Errorf(kv.Precondition, "the vBuckets that this node owns need no lease of the registry; ask the owners of the others: %s (not applied)", strings.Join(others, ", "))
	default:
		return nil, nil, kv.Errorf(kv.Precondition, "this node owns no vBucket; ask the owners: %s (not applied)", strings.Join(others, ", "))
	}
}

// firstEnded returns nil if the log of the first vBucket, which another node owns, says that its
// owner needs no lease.
func (s *Standbys) firstEnded(ctx context.Context) error {
	l := s.logs[0]
	at := l.Owner().Address
	if at == "" {
		return kv.Errorf(kv.Unavailable, "the owner of vBucket %s, which comes first, is not known; retry (not applied)", l.VBucket())
	}
	found, err := s.ask(ctx, at, "")
	if err != nil {
		return err
	}
	return checked(l.VBucket(), found, func(f *peerpb.StandingOf) error {
		if f.GetLeased() {
			return kv.Errorf(kv.Precondition, "vBucket %s comes first: remove auto-promote-after from its owner %s and run this there (not applied)", l.VBucket(), at)
		}
		return nil
	})
}

// Record says in a sentence what the record means for a master; empty if it needs none.
func (r *record) status() string {
	found := r.keeper.Record()
	text := fmt.Sprintf("era %d", found.GetEra())
	if err := r.keeper.Held(); err != nil {
		return text + ", no lease: " + err.Error()
	}
	text += fmt.Sprintf(", lease for %v", r.keeper.Remaining().Round(10*time.Millisecond))
	if err := r.keeper.Fault(); err != nil {
		text += ", but none for " + err.Error()
	}
	if len(found.GetStandbys()) == 0 {
		return text + ", no standby may take over"
	}
	for _, n := range found.GetStandbys() {
		text += ", standby " + n.GetAddress()
	}
	return text
}
