package state_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestAwaitApplied(t *testing.T) {
	r := replicatest.RunNode(t)
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	r.MustPut("a", "1")
	for index := range kv.Index(2) {
		if err := r.AwaitApplied(ctx, index); err != nil {
			t.Errorf("index %d, which is applied: %v", index, err)
		}
	}
	next, later := replicatest.Awaits(ctx, r, 2), replicatest.Awaits(ctx, r, 3)
	r.MustPut("a", "2")
	if err := <-next; err != nil {
		t.Error(err)
	}
	select {
	case err := <-later:
		t.Errorf("index 3 of 2: %v", err)
	default:
	}
	r.MustPut("a", "3")
	if err := <-later; err != nil {
		t.Error(err)
	}
	given, up := context.WithCancel(ctx)
	up()
	if err := <-replicatest.Awaits(given, r, 4); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A state that replaces another has a higher index, and waiting readers see it.
func TestAwaitAppliedAcrossARestore(t *testing.T) {
	r := replicatest.RunNode(t)
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	index := r.MustPut("a", "1")
	dir := filepath.Join(t.TempDir(), "backup")
	if err := r.Backup(ctx, dir); err != nil {
		t.Fatal(err)
	}
	waiting := replicatest.Awaits(ctx, r, index+1)
	if err := r.Restore(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

func TestAwaitAppliedEndsWithTheReplica(t *testing.T) {
	r := replicatest.RunNode(t)
	waiting := replicatest.Awaits(context.Background(), r, 1)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	replicatest.WantError(t, <-waiting, kv.Unavailable, kv.NotApplied)
}

// The list of slaves outlives restores, and changes while writes are paused.
func TestSlavesOfALog(t *testing.T) {
	r := replicatest.RunNode(t)
	ctx := context.Background()
	want := func(addresses ...string) {
		t.Helper()
		slaves, err := r.Slaves(ctx)
		got := []string{}
		for _, s := range slaves {
			got = append(got, s.Address)
		}
		if err != nil || !slices.Equal(got, addresses) {
			t.Errorf("slaves %q, %v; want %q", got, err, addresses)
		}
	}
	r.MustPropose(replicatest.SetSlave("a:1", true))
	dir := filepath.Join(t.TempDir(), "backup")
	if err := r.Backup(ctx, dir); err != nil {
		t.Fatal(err)
	}
	r.MustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
	r.MustPropose(replicatest.SetSlave("b:1", true))
	r.MustPropose(replicatest.SetSlave("a:1", false))
	want("b:1")
	if err := r.Restore(ctx, dir); err != nil {
		t.Fatal(err)
	}
	want("b:1")
}
