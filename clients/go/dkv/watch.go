package dkv

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// Change is the effect of one write on the keys that are watched.
type Change struct {
	// VBucket and Index are the position of the write; indexes ascend within a vBucket
	// and cannot be compared across vBuckets.
	VBucket string
	Index   uint64
	// History identifies the log that Index belongs to; a restore or a promotion starts a new one.
	History string
	// Time is that of the write, by the leader's clock.
	Time time.Time
	// Mutations are in the order in which they took effect, at least one.
	Mutations []Mutation
}

// Mutation is the change of one key.
type Mutation struct {
	Key []byte
	// Deleted reports that the key was deleted or has expired; Value and Expires are
	// then empty.
	Deleted bool
	Value   []byte
	// Expires is when the key expires; the zero time means never.
	Expires time.Time
}

// Position is how far a watch has got in a vBucket.
type Position struct {
	// Index is that of the last write that was seen; 0 is before the first one.
	Index uint64 `json:"index"`
	// History identifies the log that Index belongs to; empty means any.
	History string `json:"history,omitempty"`
}

// Cursor is how far a watch has got, by vBucket. It may be stored, as JSON for example,
// and passed to a later watch. Client.Position makes one that names all vBuckets; without
// it, a watch that goes on later misses what happened meanwhile in vBuckets that had no
// changes before.
type Cursor map[string]Position

// Advance moves the cursor, which must not be nil, past a change.
func (c Cursor) Advance(ch Change) { c[ch.VBucket] = Position{Index: ch.Index, History: ch.History} }

// Position returns the cursor after all present writes: a watch from there returns each
// write that begins after Position has returned. With WithFixedAddresses it may be an
// earlier one, that of a node that lags. Keys that are read after it may show later writes too,
// which the watch has yet to return, and which a promotion may lose: see Watch.
func (c *Client) Position(ctx context.Context) (Cursor, error) {
	ctx, cancel, t, err := c.ready(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	out, began := make(Cursor, len(t.vBuckets)), time.Now()
	var at *node // of the fixed addresses, after an attempt
	var turns turns
	for pause := firstPause; ; pause = nextPause(pause) {
		if c.opts.fixed && at == nil {
			at = t.forWrite(0, nil)
		} else if c.opts.fixed {
			at = turns.next(t, at)
		}
		err := c.positions(ctx, out, at)
		if err == nil {
			return out, nil
		}
		strange := errors.Is(err, ErrOtherCluster) && time.Since(began) < elsewhereWait // as in other calls
		if out := (*Error)(nil); errors.As(err, &out) && !passes(err) && !strange {
			return nil, err
		}
		c.learner.probeSoon()
		cause := c.sleep(ctx, max(jitter(pause), kv.RetryAfterOf(err)))
		if c.closed.Load() {
			return nil, errClosed()
		}
		if cause != nil {
			return nil, errorf(ErrUnavailable, "%w: %w", cause, err)
		}
	}
}

// positions adds the positions that the leaders report to out. With fixed addresses, leaders and
// the names of vBuckets are not known: it adds what the node at one of them says, which may lag.
func (c *Client) positions(ctx context.Context, out Cursor, at *node) error {
	t := c.topology.Load()
	asked := make(map[*node]bool)
	for i := range t.vBuckets {
		n := at
		if n == nil {
			n = t.forWrite(i, nil)
		}
		if asked[n] {
			continue
		}
		asked[n] = true
		var resp serverpb.NodeStatusResponse
		if err := n.invoke(ctx, serverpb.DKVNode_GetNodeStatus_FullMethodName, &emptypb.Empty{}, &resp); err != nil {
			return toError(err, n.name(), false)
		}
		if err := t.strange(n, &resp); err != nil {
			return err
		}
		for _, v := range resp.GetVBuckets() {
			if v.GetIsLeader() || c.opts.fixed {
				out[v.GetVBucket()] = Position{Index: v.GetAppliedIndex(), History: v.GetHistoryId()}
			}
		}
	}
	if c.opts.fixed && len(out) > 0 {
		return nil
	}
	for i := range t.vBuckets {
		if _, known := out[t.vBuckets[i].name]; !known {
			return errorf(ErrUnavailable, "no leader of vBucket %s is known", t.vBuckets[i].name)
		}
	}
	return nil
}

// Watch returns an iterator over the changes of the keys with a prefix, after a cursor:
//
//	cursor, err := c.Position(ctx) // or one that was stored
//	...
//	for change, err := range c.Watch(ctx, []byte("user/"), cursor) {
//		if err != nil {
//			return err
//		}
//		... // apply the change
//		cursor.Advance(change)
//	}
//
// With a nil cursor, and in vBuckets that the cursor does not name, it starts with the
// first write after the loop was entered. Within a vBucket changes come in order, each
// exactly once, across lost connections and changes of the leader too. After a promotion the
// watch goes on in the history that this has begun, if that has the last change which the watch
// has returned or begun after. Keys that were read beside the watch may then show writes after that
// change, which no history has any more and no change takes back. So if a change has another History
// than the cursor that it follows, read such keys of its vBucket again; those that were taken
// from changes alone are right. The watch runs until ctx ends, and waits for changes in between.
//
// After an error the watch ends. The error is ErrTrimmed if the changes after the cursor
// are not retained any more, if the keyspace was replaced, if a promotion has lost changes up
// to the cursor, or if the database was set up again; ErrOtherCluster if only nodes of another cluster have
// answered for a minute; ErrClosed, that of the context, or another one that a retry does not help.
// Leaving the loop ends the watch.
// Watch does not change the cursor: see Cursor.Advance.
func (c *Client) Watch(ctx context.Context, prefix []byte, from Cursor) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		w := &watcher{client: c, prefix: prefix, changes: make(chan Change), failed: make(chan error, 1)}
		defer w.tasks.Wait()
		defer cancel()
		if err := w.start(ctx, from); err != nil {
			yield(Change{}, err)
			return
		}
		for {
			select {
			case ch := <-w.changes:
				if !yield(ch, nil) {
					return
				}
			case err := <-w.failed:
				yield(Change{}, err)
				return
			}
		}
	}
}

// watcher follows all vBuckets, each in a goroutine of its own.
type watcher struct {
	client  *Client
	prefix  []byte
	tasks   sync.WaitGroup
	changes chan Change
	failed  chan error // of the first that fails
}

func (w *watcher) start(ctx context.Context, from Cursor) error {
	t, err := w.client.awaitTopology(ctx)
	if err != nil {
		return err
	}
	names := make([]string, len(t.vBuckets))
	for i := range t.vBuckets {
		names[i] = t.vBuckets[i].name
	}
	lacks := func(name string) bool { _, given := from[name]; return !given }
	start := maps.Clone(from)
	if w.client.opts.fixed || slices.ContainsFunc(names, lacks) {
		if start, err = w.client.position(ctx); err != nil {
			return err
		}
		if w.client.opts.fixed {
			names = slices.Collect(maps.Keys(start))
		}
		maps.Copy(start, from)
	}
	for i, name := range names {
		f := &follower{watcher: w, vBucket: i, name: name, at: start[name], last: start[name].Index}
		if w.client.opts.fixed {
			f.vBucket = 0 // stands for all of them
		}
		w.tasks.Go(func() {
			err := f.follow(ctx)
			select {
			case w.failed <- err:
			default: // another vBucket failed first
			}
		})
	}
	return nil
}

// position calls Position until it succeeds, fails for good, or ctx ends.
func (c *Client) position(ctx context.Context) (Cursor, error) {
	for {
		limited, cancel := context.WithTimeout(ctx, c.opts.timeout)
		out, err := c.Position(limited)
		cancel()
		if err == nil || ctx.Err() != nil || !passes(err) {
			return out, err
		}
	}
}
