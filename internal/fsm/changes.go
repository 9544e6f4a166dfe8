package fsm

import (
	"fmt"
	"math"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Changes is a part of the change stream.
type Changes struct {
	// Newest is the last index of the log. Indexes from the requested one up to Newest
	// that are not among Changes had no effect, unless Changes was cut at a limit.
	Newest kv.Index
	// Clock is the log's clock at Newest.
	Clock kv.Clock
	Identity
	// Former lists the histories before the current one, the oldest first. The receiver must not
	// change them.
	Former  []Former
	Changes []kv.Change
	// Line is that of the state which they were read from.
	Line *Line
}

// Line is what a state keeps while it grows, and when it is opened again after a failure. One
// that takes its place is of another line, also if its history is the same: it may have come to
// other changes under the same numbers, as a copy whose master has lost the end of its log.
type Line struct{ _ byte } // each has an address of its own

// Continue makes m the continuation of a machine that was closed, whose engine m has opened. It
// comes before any other use of m.
func (m *Machine) Continue(closed *Machine) { m.line = closed.line }

// Changes returns the changes from index from on: at most limit of them (0: no limit), and no
// more than maxBytes, but always one if there is one. The error is a kv.OutOfRange if from
// is below the changelog's floor, or among the numbers that a promotion has skipped: after the
// last index of a former history the next one is that of the present history's first entry. With it
// comes the history that it is about.
func (m *Machine) Changes(from kv.Index, limit, maxBytes int) (Changes, error) {
	// One view for all of it, so that a concurrent trim removes nothing from it.
	view, err := m.View()
	if err != nil {
		return Changes{}, err
	}
	defer view.Close()
	out := Changes{Newest: view.Index(), Clock: view.state.Clock, Identity: view.Identity(), Former: view.histories.former, Line: m.line}
	err = view.read(func(r storage.Reader) error {
		floor, err := layout.ReadFloor(r)
		if err != nil {
			return err
		}
		if from < floor {
			return kv.Errorf(kv.OutOfRange,
				"change %d is no longer retained: the oldest is %d; start over from a snapshot", from, floor)
		}
		if lost(out.Former, from-1) {
			return kv.Errorf(kv.OutOfRange, "change %d does not exist: a promotion has ended its history before it; start over from a snapshot", from)
		}
		out.Changes, err = changelog.Scan(r, from, limit, maxBytes)
		return err
	})
	if err != nil {
		return Changes{Identity: out.Identity, Former: out.Former}, err
	}
	return out, nil
}

// LastChange returns the newest change that is retained, and whether there is one. If there is none,
// the change has no mutations and the index after which the log has had no change, with the log's clock
// there if the state has not moved since.
func (m *Machine) LastChange() (last kv.Change, found bool, err error) {
	view, err := m.View()
	if err != nil {
		return kv.Change{}, false, err
	}
	defer view.Close()
	err = view.read(func(r storage.Reader) (err error) {
		if last, found, err = lastChange(r); err != nil || found {
			return err
		}
		floor, err := layout.ReadFloor(r)
		last.Index = max(floor, 1) - 1
		if last.Index == view.Index() {
			last.Clock = view.Clock()
		}
		return err
	})
	return last, found, m.note(err)
}

// LastDigest returns the digest of the newest change that is retained; 0 for none. Logs that
// have the same one have the same changes up to there.
func (m *Machine) LastDigest() (uint64, error) {
	last, found, err := m.LastChange()
	if err != nil || !found {
		return 0, err
	}
	return changelog.Digest(&last), nil
}

func lastChange(r storage.Reader) (kv.Change, bool, error) {
	index, found, err := changelog.Newest(r)
	if err != nil || !found {
		return kv.Change{}, false, err
	}
	changes, err := changelog.Scan(r, index, 1, math.MaxInt)
	if err != nil || len(changes) == 0 {
		return kv.Change{}, false, err
	}
	return changes[0], true, nil
}

// ChangelogBytes returns the size of the retained changes.
func (m *Machine) ChangelogBytes() (uint64, error) {
	if !m.gate.enter() {
		return 0, ErrClosed
	}
	defer m.gate.leave()
	at := changelogSize{applied: m.Applied(), floor: m.floor.Load()}
	if last := m.changelogSize.Load(); last != nil && last.applied == at.applied && last.floor == at.floor {
		return last.bytes, nil
	}
	var err error
	if at.bytes, err = changelog.Size(m.engine, at.floor); err == nil {
		m.changelogSize.Store(&at)
	}
	return at.bytes, err
}

// changelogSize is the size of the change log's records when it had that extent.
type changelogSize struct {
	applied, floor kv.Index
	bytes          uint64
}

// trimStep is how many records one trim deletes at most, so that an engine without native
// range deletion never has too much to do at once.
const trimStep = 4096

// TrimChangelog drops up to trimStep changes that retention does not keep, and reports
// whether there are more. It may run concurrently with Apply, but not with itself. Each
// replica trims by itself: the changelog is not part of the state that replicas agree on.
func (m *Machine) TrimChangelog(ret changelog.Retention) (more bool, err error) {
	if err := m.failure(); err != nil {
		return false, err
	}
	floor := m.floor.Load()
	keep, more, err := m.keepFrom(ret, floor)
	if err != nil || keep == floor {
		return false, err
	}
	if !m.gate.enter() {
		return false, ErrClosed
	}
	defer m.gate.leave()
	var b storage.Batch
	b.DeleteRange(storage.Changelog, changelog.Key(floor), changelog.Key(keep))
	b.Put(storage.Meta, layout.KeyFloor, changelog.Key(keep))
	m.staging.Lock()
	defer m.staging.Unlock()
	if err := m.engine.Write(&b, false); err != nil {
		return false, m.fail(fmt.Errorf("trim changelog: %w", err))
	}
	m.floor.Store(keep)
	return more, nil
}

// keepFrom returns the lowest index that one trim keeps, and whether ret does not keep that
// either. It looks at one pinned state, since Apply may run concurrently.
func (m *Machine) keepFrom(ret changelog.Retention, floor kv.Index) (keep kv.Index, more bool, err error) {
	v, err := m.View()
	if err != nil {
		return 0, false, err
	}
	defer v.Close()
	keep = floor
	err = v.read(func(r storage.Reader) (err error) {
		if keep, err = changelog.Floor(r, ret, floor, v.state.Applied, v.state.Clock); err != nil || keep <= floor+trimStep {
			return err
		}
		// From the first record on: a promotion leaves a gap of numbers that no step
		// must walk through.
		first, found, err := changelog.Oldest(r, floor)
		if err == nil && found && keep > first+trimStep {
			keep, more = first+trimStep, true
		}
		return err
	})
	return keep, more, err
}

// The log's formats from which on change records have the requests that caused them, and one record
// has several changes: a member of an older release could not read such a record in a snapshot.
const (
	requestFormat = 4
	sharedFormat  = 5
)

// allows reports whether the records may be those of a format. A log without epochs is a standalone
// node's, which no other node's release reads. A format that the batch has raised counts: the changes of
// all members are the same, however each has batched the log.
func (tx *tx) allows(format uint32) bool {
	return tx.m.state.Epoch.ID == 0 || max(tx.format, tx.m.Format()) >= format
}

// record adds a change to the changelog.
func (tx *tx) record(c kv.Change) {
	m := tx.m
	m.state.Logged = m.scratch.changes.Append(tx.batch, c, m.state.Logged)
	m.effect = c.Index
	if !tx.allows(sharedFormat) {
		m.scratch.changes.Flush(tx.batch)
	}
}

// cause returns the request of a change that c has made, or nil if it has no id or may not be
// recorded. It is valid until the next call.
func (tx *tx) cause(c *command.Command, res command.Result) *kv.ChangeRequest {
	m := tx.m
	if c.Request.IsZero() || !tx.allows(requestFormat) {
		return nil
	}
	id := c.Request
	id.Repeat = false
	m.scratch.cause = kv.ChangeRequest{ID: id, Fingerprint: c.Fingerprint(), Code: uint8(res.Code), Counter: res.Counter}
	return &m.scratch.cause
}

// remember adds the request of a change that is replicated to those that are answered with
// their first results. Requests without an effect are not among them: a repeat of such a
// request is a new one.
func (tx *tx) remember(c *kv.Change) {
	if c.Request == nil {
		return
	}
	res := command.Result{Index: c.Index, Code: command.Code(c.Request.Code), Counter: c.Request.Counter}
	tx.m.requests.AddResult(tx.batch, c.Request.ID, c.Request.Fingerprint, res, tx.m.state.Clock)
}
