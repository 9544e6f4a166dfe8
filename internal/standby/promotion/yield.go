package promotion

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
)

// ErrSuperseded means that the node is no master any more, and has to open its data folder
// again to be what it has become.
var ErrSuperseded = errors.New("a promotion has replaced this node: it is no master any more")

// ErrSame means that the new masters are of the same histories as the node: it is one of them.
var ErrSame = errors.New("this node is one of these masters: its histories are theirs")

// Descent is the history of a vBucket with those before it.
type Descent struct {
	VBucket, History string
	// Ends are the last indexes that History has of the histories before it: 0 of one that a
	// restore ended, and of those before that.
	Ends map[string]kv.Index
}

// Former is a master that may have been replaced.
type Former struct {
	// Dir is the data folder; empty for a diskless node, whose restart forgets all anyway.
	Dir string
	// Own returns the histories of the own vBuckets, by name.
	Own func() map[string]string
	// Led reports whether a vBucket's log has an owner, as far as is known here: others may have
	// yielded already.
	Led func(vBucket string) bool
	// Members returns the other members of the own cluster, which have to yield too; nil for none.
	Members func() []string
	// Ask asks a node for its histories.
	Ask func(ctx context.Context, address string) ([]Descent, error)
	Log *slog.Logger

	mu sync.Mutex // one call at a time
	// writing is held while what one of the masters has answered is judged.
	writing sync.Mutex
	once    sync.Once
	gone    chan struct{}
}

// Yielded is closed once the node has yielded.
func (f *Former) Yielded() <-chan struct{} {
	f.once.Do(func() { f.gone = make(chan struct{}) })
	return f.gone
}

// Hear is told that others say that they are the masters, and whether the node is to become
// their slave at once. It asks them itself, each for a bounded time, and returns nil if the
// node yields to them, which it has written down by then.
func (f *Former) Hear(ctx context.Context, masters []string, rejoin bool) error {
	if len(masters) > mostNodes {
		return kv.Errorf(kv.Invalid, "%d addresses of masters are named, and at most %d are asked", len(masters), mostNodes)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	gone := f.Yielded()
	select {
	case <-gone:
		return nil
	default:
	}
	errs := each(ctx, masters, func(ctx context.Context, address string) error {
		found, err := f.Ask(ctx, address)
		if err != nil {
			return err
		}
		f.writing.Lock()
		defer f.writing.Unlock()
		select {
		case <-gone:
			return nil
		default:
		}
		if err := f.yield(found, masters, rejoin); err != nil {
			return err
		}
		close(f.gone)
		return nil
	})
	if slices.ContainsFunc(errs, func(err error) bool { return err == nil }) {
		return nil
	}
	return joined(masters, errs)
}

// yield writes down that the node yields to masters with histories that succeed its own in
// every vBucket, and returns an error if they do not.
func (f *Former) yield(found []Descent, masters []string, rejoin bool) error {
	own := f.Own()
	if !slices.ContainsFunc(found, func(d Descent) bool { return own[d.VBucket] != d.History }) && len(found) == len(own) {
		return ErrSame
	}
	s := Superseded{Masters: slices.Clone(masters), Rejoin: rejoin, Ends: map[string]kv.Index{}}
	for name, history := range own {
		i := slices.IndexFunc(found, func(d Descent) bool { return d.VBucket == name })
		if i < 0 {
			return kv.Errorf(kv.Precondition, "it has no vBucket %s", name)
		}
		end, follows := found[i].Ends[history]
		if !follows || era.Of(found[i].History) <= era.Of(history) {
			return kv.Errorf(kv.Precondition, "vBucket %s: its history %s does not succeed %s by a promotion, so this node yields nothing", name, found[i].History, history)
		}
		if end == 0 && f.Led(name) {
			return kv.Errorf(kv.Precondition, "vBucket %s: a restore has ended the history %s before %s, and its log has an owner here that did not apply it: another database may have been made of a backup of this one", name, history, found[i].History)
		}
		s.Era, s.History, s.Ends[name] = era.Of(found[i].History), found[i].History, end
	}
	if f.Members != nil {
		s.Members = f.Members()
	}
	if f.Dir != "" {
		if err := s.Write(f.Dir); err != nil {
			return err
		}
	}
	f.Log.Warn("a promotion has replaced this node; it is no master any more", "era", s.Era, "masters", s.Masters)
	return nil
}

const (
	// noticePause is how long to wait before a former master is told again, at first and
	// at most.
	noticePause, maxNoticePause = 500 * time.Millisecond, 10 * time.Second
)

// Successor tells other nodes that a promotion is done.
type Successor struct {
	// Dir is the data folder.
	Dir string
	// Yield tells a former master, and returns the other members of its cluster. Become tells
	// a node of the set that has not heard yet that it is a master.
	Yield  func(ctx context.Context, master string) (more []string, err error)
	Become func(ctx context.Context, address string, r Record) error
	// Unseal ends the seal of a promotion that was given up at a slave.
	Unseal func(ctx context.Context, address, promotion string) error
	Log    *slog.Logger
}

// Run tells the former masters of a promotion, and the nodes of its set, until each has
// acknowledged it or ctx ends. It also ends the seals that earlier promotions have left.
func (s *Successor) Run(ctx context.Context, r Record) error {
	pause := noticePause
	for _, l := range r.Earlier {
		r.Masters = union(r.Masters, slices.Concat(l.Masters, l.Stopped))
	}
	known := slices.Clone(r.Masters) // also those that were told
	for len(r.Masters)+len(r.Untold)+len(r.Earlier) > 0 {
		before := len(r.Masters) + len(r.Untold)
		released := s.release(ctx, &r)
		told, err := r.told(ctx, s.Become)
		if err != nil {
			s.Log.Warn("a node of the promotion does not know yet that it is a master", "error", err)
		}
		r.Untold = without(r.Untold, told)
		yielded, more := s.yield(ctx, r.Masters)
		more = without(more, known)
		known = union(known, more)
		r.Masters = union(without(r.Masters, yielded), more)
		if released || len(told)+len(yielded)+len(more) > 0 {
			if err := r.Write(s.Dir); err != nil {
				return err
			}
		}
		if released || len(r.Masters)+len(r.Untold) < before {
			pause = noticePause
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxNoticePause)
	}
	return nil
}

// release ends the seals of slaves that promotions which were given up have left, and reports
// whether one has ended: those slaves would follow no master.
func (s *Successor) release(ctx context.Context, r *Record) (released bool) {
	var left []Left
	for _, l := range r.Earlier {
		slaves, err := unsealed(ctx, l.ID, l.Slaves, s.Unseal)
		if err != nil {
			s.Log.Debug("a slave may still be sealed by a promotion that was given up", "promotion", l.ID, "error", err)
		}
		released = released || len(slaves) < len(l.Slaves) || len(slaves) == 0
		if len(slaves) > 0 {
			left = append(left, Left{ID: l.ID, Slaves: slaves})
		}
	}
	r.Earlier = left
	return released
}

// yield tells former masters, and returns those that have yielded and the members of their
// clusters.
func (s *Successor) yield(ctx context.Context, masters []string) (yielded, more []string) {
	members := make([][]string, len(masters))
	errs := each(ctx, masters, func(ctx context.Context, master string) (err error) {
		members[slices.Index(masters, master)], err = s.Yield(ctx, master)
		return err
	})
	for i, master := range masters {
		if errs[i] != nil {
			s.Log.Debug("a former master does not know yet that it was replaced", "master", master, "error", errs[i])
			continue
		}
		s.Log.Info("a former master knows that it was replaced", "master", master)
		yielded, more = append(yielded, master), append(more, members[i]...)
	}
	return yielded, more
}
