package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Get returns the pair at key as of now, and whether it is there: an expired
// key is not. The pair's Key is the given slice.
func (m *Machine) Get(key []byte, now kv.Clock) (kv.Pair, bool, error) {
	if !m.gate.enter() {
		return kv.Pair{}, false, ErrClosed
	}
	defer m.gate.leave()
	stored, found, err := m.engine.Get(storage.Data, key)
	if err != nil || !found {
		return kv.Pair{}, false, m.note(err)
	}
	pair, live, err := parsePair(key, stored, now)
	return pair, live, m.note(err)
}

// note remembers the first sign of corruption, so that an operator hears of it
// even if the client that met it does not tell.
func (m *Machine) note(err error) error {
	if errors.Is(err, storage.ErrCorrupt) {
		m.corruption.CompareAndSwap(nil, &err)
	}
	return err
}

// Corruption returns the first error by which a read met damaged data; nil
// where none did.
func (m *Machine) Corruption() error {
	if err := m.corruption.Load(); err != nil {
		return *err
	}
	return nil
}

// MultiGet returns the pairs of those keys that are there as of now, in the
// order of keys, read from one state.
func (m *Machine) MultiGet(keys [][]byte, now kv.Clock) ([]kv.Pair, error) {
	if !m.gate.enter() {
		return nil, ErrClosed
	}
	defer m.gate.leave()
	stored, err := m.engine.MultiGet(storage.Data, keys)
	if err != nil {
		return nil, m.note(err)
	}
	pairs, err := livePairs(keys, stored, now)
	return pairs, m.note(err)
}

func livePairs(keys, stored [][]byte, now kv.Clock) ([]kv.Pair, error) {
	pairs := make([]kv.Pair, 0, len(keys))
	for i, key := range keys {
		if stored[i] == nil {
			continue
		}
		p, live, err := parsePair(key, stored[i], now)
		if err != nil {
			return nil, err
		}
		if live {
			pairs = append(pairs, p)
		}
	}
	return pairs, nil
}

func parsePair(key, stored []byte, now kv.Clock) (kv.Pair, bool, error) {
	value, expireTS, err := splitData(stored)
	if err != nil {
		return kv.Pair{}, false, fmt.Errorf("key %q: %w", key, err)
	}
	if now.Expired(expireTS) {
		return kv.Pair{}, false, nil
	}
	return kv.Pair{Key: key, Value: value, ExpireTS: expireTS}, true, nil
}

// Expiring returns up to limit keys whose expiry now has reached, as the
// mutations of a command.Expire. It costs nothing where no key expires.
func (m *Machine) Expiring(now kv.Clock, limit int) ([]kv.Mutation, error) {
	if m.expiring.Load() == 0 {
		return nil, nil
	}
	if !m.gate.enter() {
		return nil, ErrClosed
	}
	defer m.gate.leave()
	end := binary.BigEndian.AppendUint64(nil, uint64(now)/1000+1)
	it := m.engine.Iterate(storage.Expiry, storage.Range{End: end, KeysOnly: true})
	defer it.Close()
	var due []kv.Mutation
	for len(due) < limit && it.Next() {
		k := it.Key()
		if len(k) <= 8 {
			return nil, fmt.Errorf("%w: expiry record %x", storage.ErrCorrupt, k)
		}
		due = append(due, kv.Mutation{
			Key:      append([]byte(nil), k[8:]...),
			ExpireTS: binary.BigEndian.Uint64(k),
			Delete:   true,
		})
	}
	return due, it.Err()
}

// HasKeys reports whether there is any key, be it an expired one.
func (m *Machine) HasKeys() (bool, error) {
	if !m.gate.enter() {
		return false, ErrClosed
	}
	defer m.gate.leave()
	it := m.engine.Iterate(storage.Data, storage.Range{KeysOnly: true})
	defer it.Close()
	some := it.Next()
	return some, m.note(it.Err())
}

// Due reports whether a key's expiry, which the log's clock has not reached, has been
// reached by now. It costs nothing where no key expires.
func (m *Machine) Due(now kv.Clock) (bool, error) {
	if m.expiring.Load() == 0 {
		return false, nil
	}
	if !m.gate.enter() {
		return false, ErrClosed
	}
	defer m.gate.leave()
	from, to := uint64(m.Clock())/1000+1, uint64(now)/1000+1
	if from >= to {
		return false, nil
	}
	it := m.engine.Iterate(storage.Expiry, storage.Range{
		Start: binary.BigEndian.AppendUint64(nil, from), End: binary.BigEndian.AppendUint64(nil, to), KeysOnly: true,
	})
	defer it.Close()
	due := it.Next()
	return due, m.note(it.Err())
}

// Changes is a stretch of the change stream.
type Changes struct {
	// Newest is the last index of the log: indexes up to it, and from the
	// asked-for one on, that are not among Changes had no effect, unless
	// Changes was cut at a limit.
	Newest kv.Index
	// Clock is the log's clock at Newest.
	Clock kv.Clock
	Identity
	// Former are the histories whose place the present one has taken, the oldest first.
	Former  []string
	Changes []kv.Change
}

// Changes returns the changes from index from on: at most limit of them (0: no
// limit), within maxBytes but always one if there is one. The error is a
// kv.OutOfRange where from is below the changelog's floor.
func (m *Machine) Changes(from kv.Index, limit, maxBytes int) (Changes, error) {
	// One view for all of it: a trim meanwhile takes nothing away from it.
	view, err := m.View()
	if err != nil {
		return Changes{}, err
	}
	defer view.Close()
	out := Changes{Newest: view.Index(), Clock: view.state.clock, Identity: m.Identity(), Former: m.lineage}
	err = view.read(func(r storage.Reader) error {
		floor, err := readFloor(r)
		if err != nil {
			return err
		}
		if from < floor {
			return kv.Errorf(kv.OutOfRange,
				"change %d is no longer retained: the oldest is %d; start over from a snapshot", from, floor)
		}
		out.Changes, err = changelog.Scan(r, from, limit, maxBytes)
		return err
	})
	if err != nil {
		return Changes{}, err
	}
	return out, nil
}

// ChangelogBytes returns the size of the retained changes.
func (m *Machine) ChangelogBytes() (uint64, error) {
	if !m.gate.enter() {
		return 0, ErrClosed
	}
	defer m.gate.leave()
	return changelog.Size(m.engine, m.floor.Load())
}

// trimStep is the most records that one trim deletes, so that an engine
// without native range deletion never does too much at once.
const trimStep = 4096

// TrimChangelog drops up to trimStep changes that retention does not keep and
// tells whether there are more. It may run concurrently with Apply, but not
// with itself. Trimming is each replica's own affair: the changelog is not part
// of the state that replicas agree on.
func (m *Machine) TrimChangelog(ret changelog.Retention) (more bool, err error) {
	if err := m.failure(); err != nil {
		return false, err
	}
	floor := m.floor.Load()
	keep, err := m.keepFrom(ret, floor)
	if err != nil || keep == floor {
		return false, err
	}
	if !m.gate.enter() {
		return false, ErrClosed
	}
	defer m.gate.leave()
	if keep > floor+trimStep {
		keep, more = floor+trimStep, true
	}
	var b storage.Batch
	b.DeleteRange(storage.Changelog, changelog.Key(floor), changelog.Key(keep))
	b.Put(storage.Meta, keyFloor, changelog.Key(keep))
	if err := m.engine.Write(&b, false); err != nil {
		return false, m.fail(fmt.Errorf("trim changelog: %w", err))
	}
	m.floor.Store(keep)
	return more, nil
}

// keepFrom returns the least index that ret keeps, as of one state: Apply may
// run meanwhile.
func (m *Machine) keepFrom(ret changelog.Retention, floor kv.Index) (kv.Index, error) {
	v, err := m.View()
	if err != nil {
		return 0, err
	}
	defer v.Close()
	keep := floor
	err = v.read(func(r storage.Reader) (err error) {
		keep, err = changelog.Floor(r, ret, floor, v.state.applied, v.state.clock)
		return err
	})
	return keep, err
}
