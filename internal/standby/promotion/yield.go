package promotion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
)

// ErrSuperseded means that the node is no master any more, and has to open its data folder
// again to be what it has become.
var ErrSuperseded = errors.New("a promotion has replaced this node: it is no master any more")

// Descent is the history of a vBucket with those before it.
type Descent struct {
	VBucket, History string
	// Ends are the last indexes that History has of the histories before it; of one that a
	// restore ended there is none, and it is not here.
	Ends map[string]kv.Index
}

// Former is a master that may have been replaced.
type Former struct {
	// Dir is the data folder; empty for a diskless node, whose restart forgets all anyway.
	Dir string
	// Own returns the histories of the own vBuckets, by name.
	Own func() map[string]string
	// Ask asks a node for its histories.
	Ask func(ctx context.Context, address string) ([]Descent, error)
	Log *slog.Logger

	mu   sync.Mutex
	once sync.Once
	gone chan struct{}
}

// Yielded is closed once the node has yielded.
func (f *Former) Yielded() <-chan struct{} {
	f.once.Do(func() { f.gone = make(chan struct{}) })
	return f.gone
}

// Hear is told that others say that they are the masters. It asks them itself, and returns
// nil if the node yields to them, which it has written down by then.
func (f *Former) Hear(ctx context.Context, masters []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	gone := f.Yielded()
	select {
	case <-gone:
		return nil
	default:
	}
	var errs []error
	for _, address := range masters {
		found, err := f.Ask(ctx, address)
		if err == nil {
			err = f.yield(found, masters)
		}
		if err == nil {
			close(f.gone)
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return errors.Join(errs...)
}

// yield writes down that the node yields to masters with histories that succeed its own in
// every vBucket, and returns an error if they do not.
func (f *Former) yield(found []Descent, masters []string) error {
	own := f.Own()
	s := Superseded{Masters: slices.Clone(masters), Ends: map[string]kv.Index{}}
	for name, history := range own {
		i := slices.IndexFunc(found, func(d Descent) bool { return d.VBucket == name })
		if i < 0 {
			return kv.Errorf(kv.Precondition, "it has no vBucket %s", name)
		}
		end, follows := found[i].Ends[history]
		if era := standby.Era(found[i].History); !follows || era <= standby.Era(history) {
			return kv.Errorf(kv.Precondition, "vBucket %s: its history %s does not succeed %s by a promotion, so this node yields nothing", name, found[i].History, history)
		}
		s.Era, s.History, s.Ends[name] = standby.Era(found[i].History), found[i].History, end
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
	noticePause, maxNoticePause = 500 * time.Millisecond, 30 * time.Second
)

// Notices tells the former masters of a promotion that it is done, until each has
// acknowledged that or ctx ends.
func Notices(ctx context.Context, dir string, r Record, tell func(ctx context.Context, master string) error, log *slog.Logger) error {
	pause := noticePause
	for len(r.Masters) > 0 {
		left := slices.DeleteFunc(slices.Clone(r.Masters), func(master string) bool {
			ctx, cancel := context.WithTimeout(ctx, callPatience)
			defer cancel()
			err := tell(ctx, master)
			if err != nil {
				log.Debug("a former master does not know yet that it was replaced", "master", master, "error", err)
				return false
			}
			log.Info("a former master knows that it was replaced", "master", master)
			return true
		})
		if len(left) < len(r.Masters) {
			r.Masters = left
			if err := r.Write(dir); err != nil {
				return err
			}
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
