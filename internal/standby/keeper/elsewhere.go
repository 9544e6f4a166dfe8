package keeper

import (
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/confirm"
)

// ErrElsewhere is why a disk that stands in the first vBucket is not entered into the record: it
// does not stand in another one. Options.Standing returns it.
var ErrElsewhere = kv.Errorf(kv.Unavailable, "the slave does not stand by in another vBucket")

// elsewhere is what is known of a disk that does not stand in all vBuckets.
type elsewhere struct {
	// since is when that was found first, last when it was found last.
	since, last time.Time
}

// forgetting is after how many time-outs a disk is worth another attempt.
const forgetting = 10

// stood notes the outcome of an attempt to enter a disk into the record. Only errors that say that
// it does not stand in another vBucket count against it.
func (k *Keeper) stood(disk string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch e, ever := k.elsewhere[disk]; {
	case err == nil:
		delete(k.elsewhere, disk)
	case !errors.Is(err, ErrElsewhere):
	case !ever || time.Since(e.last) > forgetting*k.opts.Timeout:
		k.elsewhere[disk] = elsewhere{time.Now(), time.Now()}
	default:
		k.elsewhere[disk] = elsewhere{e.since, time.Now()}
	}
}

// missing returns for how long a disk has not stood in all vBuckets; 0 for one that does, or that
// may by now.
func (k *Keeper) missing(disk string) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.elsewhere[disk]
	if time.Since(e.last) > forgetting*k.opts.Timeout {
		return 0
	}
	return e.last.Sub(e.since)
}

// replaceable reports whether the first vBucket's standby has not stood in another one for longer
// than the time-out, and there is a slave of which that is not known.
func (k *Keeper) replaceable(v *look, n *standby.Node, slots []confirm.Slot) bool {
	if n.Phase != standby.Standing || k.missing(n.Disk) <= k.opts.Timeout {
		return false
	}
	other := k.best(v, slots)
	return other != nil && k.missing(other.Disk) <= k.opts.Timeout
}

// pause is when the record is tried again after an attempt that failed.
type pause struct {
	until  time.Time
	length time.Duration
	// of is the change of the first log's set that was tried.
	of kv.Index
}

// due reports whether a set may be tried: after a change at once, otherwise ever more seldom. Each
// attempt puts a question into the logs of all vBuckets.
func (p *pause) due(changed kv.Index) bool {
	return p.of != changed || !time.Now().Before(p.until)
}

// longestPause bounds the time between two attempts.
const longestPause = time.Second

// fail puts the next attempt off.
func (p *pause) fail(changed kv.Index) {
	if p.of != changed {
		*p = pause{of: changed, length: shortest}
	}
	p.length = min(2*p.length, longestPause)
	p.until = time.Now().Add(p.length)
}
