package state_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
)

// TestFullDiskIsWaitedOut fills the disk in the middle of a write, and makes
// room again. What the failed batch came to is what is found on reopening.
func TestFullDiskIsWaitedOut(t *testing.T) {
	for name, landed := range map[string]bool{"batch lost": false, "batch landed": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var opens atomic.Int64
				r := replicatest.RunNode(t, replicatest.OnDisk, func(r *replicatest.Rig) {
					open := r.Opts.Open
					r.Opts.Open = func(dir string) (storage.Engine, error) {
						if opens.Add(1) == 2 {
							return nil, errors.New("still no space")
						}
						e, err := open(dir)
						if err == nil && landed {
							e = lateFailure{e.(*replicatest.DiskEngine), r}
						}
						return e, err
					}
				})
				r.MustPut("before", "1")
				r.FailWrites(storage.ErrNoSpace)
				_, err := r.Propose(t.Context(), replicatest.Put("k", "v"))
				replicatest.WantError(t, err, kv.Exhausted, kv.Unknown)
				_, err = r.Propose(t.Context(), replicatest.Put("k2", "v"))
				replicatest.WantError(t, err, kv.Exhausted, kv.NotApplied)
				r.WantValue("before", "1")

				r.OnWrite(nil)
				// The first look closes the engine, and does not open it: reads
				// are told so at once.
				time.Sleep(state.ReopenInterval + state.ReopenInterval/2)
				synctest.Wait()
				if opens.Load() != 2 || r.State() != replica.Failed || r.Readable() || r.Status().Unreadable == nil {
					t.Fatalf("%d opens, state %s, readable %v", opens.Load(), r.State(), r.Readable())
				}
				begin := time.Now()
				_, _, _, err = r.Get(t.Context(), []byte("before"), kv.ReadOptions{})
				replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
				if waited := time.Since(begin); waited != 0 {
					t.Errorf("the read waited for %v", waited)
				}
				time.Sleep(state.ReopenInterval)
				synctest.Wait()
				r.WantValue("before", "1")

				want, next := "", kv.Index(2)
				if landed {
					want, next = "v", 3
				}
				r.WantValue("k", want)
				synctest.Wait()
				if r.State() != replica.Serving {
					t.Fatalf("state %s", r.State())
				}
				if got := r.MustPut("k3", "v"); got != next {
					t.Errorf("the next write has index %d, want %d", got, next)
				}
			})
		})
	}
}

// TestReadsGoOnUntilStorageCanReopen: a stream without a reader keeps the
// engine open. Other reads are held up for a moment, not for good.
func TestReadsGoOnUntilStorageCanReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t, replicatest.OnDisk)
		r.MustPut("k", "1")
		view, _, err := r.View(t.Context(), kv.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r.FailWrites(storage.ErrNoSpace)
		if _, err := r.Propose(t.Context(), replicatest.Put("k", "2")); err == nil {
			t.Fatal("the write succeeded")
		}
		r.OnWrite(nil)
		for range 30 { // across three attempts
			time.Sleep(state.ReopenInterval / 10)
			begin := time.Now()
			r.WantValue("k", "1")
			if waited := time.Since(begin); waited > state.ReopenPatience {
				t.Fatalf("a read waited for %v", waited)
			}
			if !r.Readable() || r.State() != replica.Failed {
				t.Fatalf("state %s, readable %v", r.State(), r.Readable())
			}
		}
		view.Close()
		time.Sleep(state.ReopenInterval + state.ReopenPatience)
		synctest.Wait()
		if r.State() != replica.Serving {
			t.Fatalf("state %s", r.State())
		}
		r.MustPut("k", "3")
	})
}

// lateFailure is an engine whose batch is on the disk when its sync fails.
type lateFailure struct {
	*replicatest.DiskEngine
	r *replicatest.Rig
}

func (e lateFailure) Write(b *storage.Batch, sync bool) error {
	hook := e.r.Hook()
	if !sync || hook == nil {
		return e.DiskEngine.Write(b, sync)
	}
	if err := e.Engine.Write(b, false); err != nil {
		return err
	}
	return errors.Join(e.Save(), hook())
}

// TestFullDiskWithoutFolder has nothing to reopen; the error stays.
func TestFullDiskWithoutFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		r.FailWrites(storage.ErrNoSpace)
		_, err := r.Propose(t.Context(), replicatest.Put("k", "v"))
		replicatest.WantError(t, err, kv.Exhausted, kv.Unknown)
		r.OnWrite(nil)
		time.Sleep(10 * state.ReopenInterval)
		if r.State() != replica.Failed {
			t.Errorf("state %s", r.State())
		}
	})
}

// TestCloseEndsWaitForSpace closes a replica whose disk stays full.
func TestCloseEndsWaitForSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t, replicatest.OnDisk, func(r *replicatest.Rig) {
			open, first := r.Opts.Open, true
			r.Opts.Open = func(dir string) (storage.Engine, error) {
				if !first {
					return nil, storage.ErrNoSpace
				}
				first = false
				return open(dir)
			}
		})
		r.FailWrites(storage.ErrNoSpace)
		if _, err := r.Propose(t.Context(), replicatest.Put("k", "v")); err == nil {
			t.Fatal("the write succeeded")
		}
		time.Sleep(3 * state.ReopenInterval)
		got := make(chan error, 1)
		go func() {
			_, _, _, err := r.Get(context.Background(), []byte("k"), kv.ReadOptions{})
			got <- err
		}()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		replicatest.WantError(t, <-got, kv.Unavailable, kv.NotApplied)
	})
}

// TestOtherErrorsAreNotWaitedOut: whether a disk that lost a write can be
// trusted is for an operator to say.
func TestOtherErrorsAreNotWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t, replicatest.OnDisk)
		r.FailWrites(errors.New("input/output error"))
		if _, err := r.Propose(t.Context(), replicatest.Put("k", "v")); err == nil {
			t.Fatal("the write succeeded")
		}
		r.OnWrite(nil)
		time.Sleep(10 * state.ReopenInterval)
		if r.State() != replica.Failed {
			t.Errorf("state %s", r.State())
		}
	})
}

func TestStatus(t *testing.T) {
	r := replicatest.OpenNode(t, replicatest.OnDisk)
	s := r.Status()
	if s.State != replica.Starting || s.VBucket != "default" || s.Mode != replica.ModeLocal || s.Engine != "memory" ||
		s.Identity.Cluster == "" || s.Identity.History == "" || s.ChangelogFloor != 1 || !s.IsLeader {
		t.Errorf("before Run: %+v", s)
	}
	r.Start(context.Background())
	r.MustPut("k", "v")
	s = r.Status()
	if s.State != replica.Serving || s.Applied != 1 || s.Commit != 1 || s.ReadOnly != "" {
		t.Errorf("serving: %+v", s)
	}
	if u := r.Usage(); u.ChangelogBytes == 0 || u.Storage.EstimatedKeys != 1 {
		t.Errorf("it takes %+v", u)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	s = r.Status()
	if s.State != replica.Closed || s.IsLeader || s.Applied != 1 || s.ReadOnly != "the node is shutting down" {
		t.Errorf("closed: %+v", s)
	}
}

// TestReopenKeepsEverything restarts a replica.
func TestReopenKeepsEverything(t *testing.T) {
	r := replicatest.RunNode(t, replicatest.OnDisk)
	r.MustPut("k", "v")
	before := r.Status().Identity
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := replicatest.RunNode(t, replicatest.InFolderOf(r.Rig))
	again.WantValue("k", "v")
	if got := again.Status().Identity; got != before {
		t.Errorf("identity %+v, was %+v", got, before)
	}
	if got := again.MustPut("k2", "v"); got != 2 {
		t.Errorf("the next index is %d", got)
	}
}

func TestOpenFails(t *testing.T) {
	r := replicatest.OpenNode(t, replicatest.OnDisk)
	dir := r.Opts.Generations.Current()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "checkpoint.mem"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Open(r.Options()); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
}

func TestStatusShowsRequests(t *testing.T) {
	r := replicatest.RunNode(t)
	for client := range uint64(3) {
		c := replicatest.Put("k", "v")
		c.Request = kv.RequestID{Client: client + 1, Sequence: 1}
		r.MustPropose(c)
	}
	if got := r.Status().Requests; got.Entries != 3 || got.Sessions != 3 || got.Bytes == 0 || got.TooLate != 0 {
		t.Errorf("requests %+v", got)
	}
}
