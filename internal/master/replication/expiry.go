package replication

import (
	"context"
	"log/slog"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/route"
)

// A slave stays on the list for as long as it is heard from: it renews its entry every minute,
// and each master renews the entries of the slaves that ask it for changes. Entries that an
// operator added expire too if neither happens. Ages are by the log's clock, so that neither a
// restart nor another owner makes an entry younger; but while all masters were away, no
// slave could be heard. So a node that has just started, or has just become the owner of
// the log, first listens for as long as every slave needs to renew its entry. It listens again
// after the log's clock has jumped, as when machines were suspended or their clocks were
// corrected: the entries are older then, and no slave was silent.

const (
	// slavesInterval is the time between two checks of the list, slavesAtOnce the most
	// entries that one check changes.
	slavesInterval = 5 * time.Second
	slavesAtOnce   = 64
	// listenFor is how long a node listens before slaves expire.
	listenFor = 2 * SlaveRenewal
)

// KeepSlaves renews and expires the entries of the list of slaves until ctx ends. doubtful
// reports whether this node's clock cannot be relied on.
func (s *Service) KeepSlaves(ctx context.Context, doubtful func() bool, log *slog.Logger) {
	t := time.NewTicker(slavesInterval)
	defer t.Stop()
	owned, began := false, s.keyspace.All()[0].Now()
	s.checked.Store(&began)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		first := s.keyspace.All()[0]
		owns, now := first.Owner().Self, first.Now()
		if owns && !owned || s.jumped(now) {
			s.listens()
		}
		owned = owns
		s.checked.Store(&now)
		if doubtful() {
			continue
		}
		if err := s.keepSlaves(ctx, log); err != nil && ctx.Err() == nil {
			log.Debug("cannot renew or expire slaves for now", "error", err)
		}
	}
}

// keepSlaves checks the list once.
func (s *Service) keepSlaves(ctx context.Context, log *slog.Logger) error {
	v := s.keyspace.All()[0]
	slaves, err := v.Slaves(ctx)
	if err != nil {
		return err
	}
	changes, heard := 0, s.followers.lively()
	for _, slave := range slaves {
		if changes == slavesAtOnce {
			return nil
		}
		change := s.changeOf(v, slave, heard[slave.Slave])
		if change == nil {
			continue
		}
		changes++
		if err := change(ctx, log); err != nil {
			return err
		}
	}
	return nil
}

// changeOf returns the change that an entry needs, nil if none. heard reports whether its slave
// has asked this node lately.
func (s *Service) changeOf(v route.VBucket, slave fsm.ListedSlave, heard bool) func(context.Context, *slog.Logger) error {
	owner, now := v.Owner().Self, v.Now()
	switch age := ageOf(slave, now); {
	case age > slaveRenewed && heard, age == unknownAge && owner:
		return func(ctx context.Context, _ *slog.Logger) error {
			ctx, cancel := context.WithTimeout(ctx, slavesInterval)
			defer cancel()
			_, err := s.AddReplica(ctx, replicaOf(slave.Slave))
			return err
		}
	case s.expired(slave, now) && owner:
		return func(ctx context.Context, log *slog.Logger) error { return s.expireSlave(ctx, v, slave, log) }
	default:
		return nil
	}
}

// expireSlave removes an entry unless it was renewed meanwhile: entries are renewed here, at
// the log's owner, and the log fences the removal after a change of owners.
func (s *Service) expireSlave(ctx context.Context, v route.VBucket, slave fsm.ListedSlave, log *slog.Logger) error {
	unlock, err := s.lockList(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	slaves, err := v.Slaves(ctx)
	if err != nil {
		return err
	}
	for _, now := range slaves {
		if now != slave {
			continue
		}
		if _, err := v.Propose(ctx, &command.Command{Kind: command.SetSlave, Expect: slave.Append(nil)}); err != nil {
			return err
		}
		log.Info("removed a slave from the list: it was not heard from", "slave", slave.Address, "zone", slave.Zone, "after", SlaveExpiry)
	}
	return nil
}
