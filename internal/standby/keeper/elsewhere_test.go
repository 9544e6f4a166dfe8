package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
)

// inAll is Options.Standing of a bench: a node stands if it does in all its logs.
func (b *bench) inAll(_ context.Context, n standby.Node) (kv.Ack, error) {
	for _, l := range b.logs {
		if set, _, err := l.Set(); err != nil || !slices.ContainsFunc(set.Nodes, func(o standby.Node) bool { return o.Disk == n.Disk && o.Phase == standby.Standing }) {
			return 0, fmt.Errorf("vBucket %s: %w", l.VBucket(), ErrElsewhere)
		}
	}
	return kv.AckSync, nil
}

// wantsFirst is wants for the first log and the record: logs are changed in any order.
func (b *bench) wantsFirst(what string, want ...string) {
	b.t.Helper()
	synctest.Wait()
	if got := slices.DeleteFunc(b.take(), func(line string) bool { return strings.HasPrefix(line, "1 ") }); !slices.Equal(got, want) {
		b.t.Fatalf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// TestTheStandbyOfTheFirstLogStandsInAll: one that does not confirm the log of another vBucket
// makes room for a slave that may.
func TestTheStandbyOfTheFirstLogStandsInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout}, "0", "1")
		b.opts.Record, b.opts.Standing = b.record, b.inAll
		b.confirm(b.logs[0], slave("a", ""), 1)
		b.run()
		defer func() { b.stop() }()
		time.Sleep(5 * timeout)
		b.wantsFirst("a has no link to the other owner, and there is no other slave", "0 sync a:coming", "0 sync a:standing")
		for _, l := range b.logs {
			b.confirm(l, slave("b", ""), 1)
		}
		time.Sleep(5 * timeout)
		b.wantsFirst("b has both", "0 sync a:leaving", "record without [a]", "0 sync", "0 sync b:coming", "0 sync b:standing", "record with b")
		time.Sleep(time.Minute)
		b.wants("b stays")
	})
}

// TestSlavesThatStandNowhereElseTakeTurnsSlowly: each gets another attempt, and there is always one.
func TestSlavesThatStandNowhereElseTakeTurnsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout}, "0", "1")
		b.opts.Record, b.opts.Standing = b.record, b.inAll
		for _, disk := range []string{"a", "c"} {
			b.confirm(b.logs[0], slave(disk, ""), 1)
		}
		b.run()
		defer func() { b.stop() }()
		time.Sleep(100 * timeout)
		synctest.Wait()
		turns := 0
		for _, line := range b.take() {
			if strings.HasSuffix(line, "leaving") {
				turns++
			}
		}
		if turns < 2 || turns > 100/forgetting+1 {
			t.Errorf("%d turns", turns)
		}
		b.confirm(b.logs[1], slave("a", ""), 1)
		time.Sleep(3 * forgetting * timeout)
		synctest.Wait()
		if !b.record.Names("a") {
			t.Errorf("a stands in both now, and is not in the record: %q", b.take())
		}
	})
}

// TestTheRecordIsTriedEverMoreSeldom while an attempt fails, and at once after a change.
func TestTheRecordIsTriedEverMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout}, "0")
		attempts := 0
		b.opts.Record = b.record
		b.opts.Standing = func(context.Context, standby.Node) (kv.Ack, error) {
			attempts++
			return 0, errors.New("the other owner does not answer")
		}
		b.confirm(b.logs[0], slave("a", ""), 1)
		b.run()
		defer func() { b.stop() }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if attempts < 50 || attempts > 75 {
			t.Errorf("%d attempts in a minute", attempts)
		}
		if (&pause{of: 1, until: time.Now().Add(1)}).due(1) || !(&pause{of: 1, until: time.Now().Add(1)}).due(2) {
			t.Error("it is tried before its time, or not after a change")
		}
	})
}
