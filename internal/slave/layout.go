package slave

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// otherDatabase means that a master keeps another database than this node.
type otherDatabase struct{ master, theirs, ours string }

func (e otherDatabase) Error() string {
	return fmt.Sprintf("master %s keeps database %q, and this node %q: name masters of that one in repl-master-addr, or start this node with database: %s, on an empty db-folder",
		e.master, e.theirs, e.ours, e.theirs)
}

// layoutError means that a master divides the database into another number of vBuckets. The first
// ones of both have the same names, and other keys.
type layoutError struct {
	master       string
	theirs, ours int
}

func (e layoutError) Error() string {
	return fmt.Sprintf("master %s has %d vBuckets, and this node %d: start this node with vbuckets: %d, on an empty db-folder", e.master, e.theirs, e.ours, e.theirs)
}

// checkLayout returns an error if the master is known to keep another database, or to divide it in another
// way.
func (s *session) checkLayout(ctx context.Context) error {
	if s.opts.VBuckets == 0 && s.opts.Database == "" {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, s.patience.length())
	defer cancel()
	resp, err := s.opts.Statuses.of(limited, s.peer, time.Now())
	switch {
	case errors.Is(err, context.DeadlineExceeded): // what comes next would wait as long
		return err
	case err != nil:
		return nil // it may be of the earlier system, or fail in a moment in what it is needed for
	}
	if theirs := resp.GetDatabase(); theirs != "" && s.opts.Database != "" && theirs != s.opts.Database {
		return otherDatabase{s.source.Address, theirs, s.opts.Database}
	}
	if n := len(resp.GetVBuckets()); n > 0 && s.opts.VBuckets > 0 && n != s.opts.VBuckets {
		return layoutError{s.source.Address, n, s.opts.VBuckets}
	}
	return nil
}
