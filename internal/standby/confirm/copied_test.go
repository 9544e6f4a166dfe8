package confirm

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// at is a slave with disk a at an address.
func at(address string, start uint64) *Link {
	return NewLink(Slave{Disk: "a", Start: start, Address: address, Durable: true})
}

// refused checks whether a slave is kept out by the one at an address; empty for by none.
func refused(t *testing.T, what string, l *Log, k *Link, by string) {
	t.Helper()
	err := l.Confirm(k, Position{History: "h", Received: 10, Applied: 10, Synced: 10})
	var copied *Copied
	switch errors.As(err, &copied) {
	case false:
		if err != nil || by != "" {
			t.Errorf("%s: %v", what, err)
		}
	default:
		if copied.Address != by {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestACopiedFolderIsKeptOut: two slaves with the id of one disk do not take turns. The one that is listed,
// or was there first, stays, and the other one is told of it.
func TestACopiedFolderIsKeptOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, Options{Level: kv.AckSync})
		first, second := at("a:1", 1), at("b:1", 2)
		refused(t, "the first", l, first, "")
		time.Sleep(time.Hour) // one that is not listed confirms nothing while nothing is written
		refused(t, "the second", l, second, "a:1")
		refused(t, "the second connects again", l, at("b:1", 2), "a:1")
		refused(t, "the first goes on", l, first, "")
		refused(t, "the first connects again", l, at("a:1", 1), "")
		if slots := l.Slots(); len(slots) != 1 || slots[0].Slave.Address != "a:1" {
			t.Errorf("%+v", slots)
		}
		l.Lost(first) // the link before the last one: that stays
		refused(t, "the second once more", l, at("b:1", 2), "a:1")

		// The record prefers the listed address, which comes later here.
		l, s = open(t, Options{Level: kv.AckSync}, "a")
		s.last.Store(10)
		copied, listed := at("b:1", 2), at("a:1", 1)
		refused(t, "the copy, alone", l, copied, "")
		refused(t, "the listed one", l, listed, "")
		refused(t, "the copy, which had the place", l, copied, "a:1")
		time.Sleep(aliveFor - time.Second)
		refused(t, "the copy, while the listed one is alive", l, at("b:1", 2), "a:1")
		time.Sleep(time.Second)
		refused(t, "the copy, when the listed one is silent: it may have moved", l, at("b:1", 2), "")
	})
}

// TestAMovedSlaveIsNoCopy: a slave that was started again at another address has closed its connection.
func TestAMovedSlaveIsNoCopy(t *testing.T) {
	l, _ := open(t, Options{Level: kv.AckSync}, "a")
	before := at("a:1", 1)
	refused(t, "before", l, before, "")
	l.Lost(before)
	refused(t, "after", l, at("b:1", 2), "")
}

// TestCopiesMayConfirmAtAsync: nothing that they say counts.
func TestCopiesMayConfirmAtAsync(t *testing.T) {
	l, _ := open(t, Options{Level: kv.AckAsync})
	refused(t, "the first", l, at("a:1", 1), "")
	refused(t, "the second", l, at("b:1", 2), "")
}
