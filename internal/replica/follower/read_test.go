package follower

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestFollowerLinearizableReads(t *testing.T) {
	src := replicatest.RunNode(t)
	for _, reject := range []bool{false, true} {
		f := &rig{Rig: replicatest.NewRig(t), reject: reject}
		f.openFollower()
		t.Cleanup(func() { f.Replica.Close() })
		f.mustReplace(src)
		f.SetLeader("leader:1")
		opts := kv.ReadOptions{Level: kv.Linearizable}
		_, _, _, err := f.Replica.Get(t.Context(), []byte("a"), opts)
		kind := kv.NotOwner
		if reject {
			kind = kv.Precondition
			if !strings.Contains(err.Error(), "leader:1") {
				t.Errorf("%q does not name the leader", err)
			}
		}
		replicatest.WantError(t, err, kind, kv.NotApplied)
		_, _, err = f.Replica.MultiGet(t.Context(), [][]byte{[]byte("a")}, opts)
		replicatest.WantError(t, err, kind, kv.NotApplied)
		_, _, err = f.Replica.View(t.Context(), opts)
		replicatest.WantError(t, err, kind, kv.NotApplied)
	}
}

func TestFollowerMinIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := replicatest.RunNode(t)
		f := newRig(t)
		f.mustReplace(src)
		read := func(min kv.Index, patience time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, _, _, err := f.Replica.Get(ctx, []byte("a"), kv.ReadOptions{MinIndex: min})
			return err
		}
		replicatest.WantError(t, read(1, time.Second), kv.Precondition, kv.NotApplied)
		select {
		case <-f.Wanted():
		default:
			t.Error("the signal of a waiting reader was not raised")
		}
		src.MustPut("a", "1")
		go func() {
			// What is brought at first is not what the reader waits for.
			for range 3 {
				<-f.Wanted()
				f.Fresh(time.Now())
			}
			time.Sleep(time.Second)
			f.mustFollow(src)
		}()
		if err := read(1, 5*time.Second); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		select {
		case <-f.Wanted():
		default:
		}
		time.Sleep(time.Minute)
		select {
		case <-f.Wanted():
			t.Error("no reader waits any more")
		default:
		}
	})
}

// A reader waits while the copy goes on in the history that a promotion has begun: for an index of
// that, until it is there. One of the history that has ended is lost, although the copy's index
// is soon above it.
func TestFollowerMinIndexAcrossAPromotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := replicatest.RunNode(t)
		src.MustPut("a", "1")
		f := newRig(t)
		f.mustReplace(src)
		id, end := f.Position()
		next := end + era.Gap + 1
		reads := map[kv.Index]chan error{end + 3: make(chan error, 2), next: make(chan error, 2), next - 2: make(chan error, 2)}
		for at, read := range reads {
			opts := kv.ReadOptions{MinIndex: at}
			go func() {
				_, _, _, err := f.Replica.Get(t.Context(), []byte("a"), opts)
				read <- err
			}()
			go func() {
				v, _, err := f.Replica.View(t.Context(), opts)
				if err == nil {
					v.Close()
				}
				read <- err
			}()
		}
		synctest.Wait()
		time.Sleep(time.Second)
		if err := f.Adopt("1-next", []fsm.Former{{History: id.History, End: end}}); err != nil {
			t.Fatal(err)
		}
		change := kv.Change{Index: next, Clock: 1 << 40, Mutations: []kv.Mutation{{Key: []byte("a"), Value: []byte("2")}}}
		if err := f.Apply(t.Context(), end, []kv.Change{change}, next); err != nil {
			t.Fatal(err)
		}
		for at, read := range reads {
			for range 2 {
				if err := <-read; at == next && err != nil || at != next && kv.KindOf(err) != kv.Lost {
					t.Errorf("a read at %d, where %d is the first index of the next history: %v", at, next, err)
				}
			}
		}
	})
}

// A reader that waits for an index that the promotion has ended learns that it is lost, also from a copy
// that is above the end by entries without an effect, which goes behind the skipped indexes.
func TestFollowerMinIndexAboveTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := replicatest.RunNode(t)
		src.MustPut("a", "1")
		f := newRig(t)
		f.mustReplace(src)
		id, end := f.Position()
		if err := f.Apply(t.Context(), end, nil, end+3); err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, _, _, err := f.Replica.Get(t.Context(), []byte("a"), kv.ReadOptions{MinIndex: end + 7})
			read <- err
		}()
		synctest.Wait()
		if err := f.Adopt("1-next", []fsm.Former{{History: id.History, End: end}}); err != nil {
			t.Fatal(err)
		}
		if err := <-read; kv.KindOf(err) != kv.Lost {
			t.Errorf("a read at the end + 7: %v", err)
		}
		if now, at := f.Position(); now.History != "1-next" || at != end+era.Gap {
			t.Errorf("it is at the end + %d of history %s", at-end, now.History)
		}
	})
}

func TestFollowerMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := replicatest.RunNode(t)
		f := newRig(t)
		f.mustReplace(src)
		read := func(max time.Duration) (kv.ReadInfo, time.Duration, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			begun := time.Now()
			_, _, info, err := f.Replica.Get(ctx, []byte("a"), kv.ReadOptions{MaxAge: max})
			return info, time.Since(begun), err
		}
		if _, waited, err := read(time.Minute); waited != 5*time.Second {
			t.Errorf("a state that was never known to be new: %v after %v", err, waited)
		} else {
			replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
		}
		f.Fresh(time.Now().Add(-time.Second))
		if info, waited, err := read(2 * time.Second); err != nil || waited != 0 || info.Age != time.Second {
			t.Errorf("%+v, %v after %v", info, err, waited)
		}
		f.Fresh(time.Now().Add(-time.Hour)) // nothing new
		if got := f.Replica.Age(); got != time.Second {
			t.Errorf("age %v", got)
		}
		go func() {
			time.Sleep(3 * time.Second)
			for range 3 { // a master that is behind itself has had its say twice
				<-f.Wanted()
			}
			f.Fresh(time.Now())
		}()
		if info, waited, err := read(500 * time.Millisecond); err != nil || waited < 3*time.Second || info.Age != 0 {
			t.Errorf("%+v, %v after %v", info, err, waited)
		}
		synctest.Wait()
	})
}

// The time for which the machine was suspended is a part of the age.
func TestFollowerAgeCountsSleep(t *testing.T) {
	src := replicatest.RunNode(t)
	f := newRig(t)
	f.mustReplace(src)
	f.Fresh(testkit.Suspended(t, time.Now(), time.Hour))
	if _, _, info, err := f.Replica.Get(t.Context(), []byte("a"), kv.ReadOptions{}); err != nil || info.Age < time.Hour || f.Replica.Age() < time.Hour {
		t.Errorf("after an hour of sleep: %+v, %v, age %v", info, err, f.Replica.Age())
	}
}
