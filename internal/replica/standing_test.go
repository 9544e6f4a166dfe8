package replica

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
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// TestFullDiskIsWaitedOut fills the disk in the middle of a write, and makes
// room again. What the failed batch came to is what is found on reopening.
func TestFullDiskIsWaitedOut(t *testing.T) {
	for name, landed := range map[string]bool{"batch lost": false, "batch landed": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var opens atomic.Int64
				r := newRig(t, onDisk, func(r *rig) {
					open := r.opts.Open
					r.opts.Open = func(dir string) (storage.Engine, error) {
						if opens.Add(1) == 2 {
							return nil, errors.New("still no space")
						}
						e, err := open(dir)
						if err == nil && landed {
							e = lateFailure{e.(*diskEngine), r}
						}
						return e, err
					}
				})
				r.mustPut("before", "1")
				r.failWrites(storage.ErrNoSpace)
				_, err := r.Propose(t.Context(), put("k", "v"))
				wantError(t, err, kv.Exhausted, kv.Unknown)
				_, err = r.Propose(t.Context(), put("k2", "v"))
				wantError(t, err, kv.Exhausted, kv.NotApplied)
				r.wantValue("before", "1")

				r.onWrite(nil)
				// The first look closes the engine, and does not open it: reads
				// are told so at once.
				time.Sleep(reopenInterval + reopenInterval/2)
				synctest.Wait()
				if opens.Load() != 2 || r.State() != Failed || r.Readable() || r.Status().Unreadable == nil {
					t.Fatalf("%d opens, state %s, readable %v", opens.Load(), r.State(), r.Readable())
				}
				begin := time.Now()
				_, _, _, err = r.Get(t.Context(), []byte("before"), kv.ReadOptions{})
				wantError(t, err, kv.Unavailable, kv.NotApplied)
				if waited := time.Since(begin); waited != 0 {
					t.Errorf("the read waited for %v", waited)
				}
				time.Sleep(reopenInterval)
				synctest.Wait()
				r.wantValue("before", "1")

				want, next := "", kv.Index(2)
				if landed {
					want, next = "v", 3
				}
				r.wantValue("k", want)
				synctest.Wait()
				if r.State() != Serving {
					t.Fatalf("state %s", r.State())
				}
				if got := r.mustPut("k3", "v"); got != next {
					t.Errorf("the next write has index %d, want %d", got, next)
				}
			})
		})
	}
}

// TestReadsGoOnUntilStorageCanReopen: a stream that nobody reads from keeps the
// engine open. Other reads are held up for a moment, not for good.
func TestReadsGoOnUntilStorageCanReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, onDisk)
		r.mustPut("k", "1")
		view, _, err := r.View(t.Context(), kv.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r.failWrites(storage.ErrNoSpace)
		if _, err := r.Propose(t.Context(), put("k", "2")); err == nil {
			t.Fatal("the write succeeded")
		}
		r.onWrite(nil)
		for range 30 { // across three attempts
			time.Sleep(reopenInterval / 10)
			begin := time.Now()
			r.wantValue("k", "1")
			if waited := time.Since(begin); waited > reopenPatience {
				t.Fatalf("a read waited for %v", waited)
			}
			if !r.Readable() || r.State() != Failed {
				t.Fatalf("state %s, readable %v", r.State(), r.Readable())
			}
		}
		view.Close()
		time.Sleep(reopenInterval + reopenPatience)
		synctest.Wait()
		if r.State() != Serving {
			t.Fatalf("state %s", r.State())
		}
		r.mustPut("k", "3")
	})
}

// TestReopenNeedsRoom does not close what can be read before there is room for
// opening it.
func TestReopenNeedsRoom(t *testing.T) {
	var tight atomic.Bool
	r := newRig(t, onDisk, func(r *rig) {
		var err error
		r.opts.Guard, err = diskspace.New(r.dir.Path(), func(total uint64) uint64 {
			if tight.Load() {
				return total
			}
			return 0
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	r.mustPut("k", "1")
	r.failWrites(storage.ErrNoSpace)
	if _, err := r.Propose(t.Context(), put("k", "2")); err == nil {
		t.Fatal("the write succeeded")
	}
	r.onWrite(nil)
	tight.Store(true)
	if err := r.reopen(); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("reopen on a full disk: %v", err)
	}
	r.wantValue("k", "1")
	tight.Store(false)
	if err := r.reopen(); err != nil || r.State() != Serving {
		t.Errorf("reopen: %v, state %s", err, r.State())
	}
}

// lateFailure is an engine whose batch is on the disk when its sync fails.
type lateFailure struct {
	*diskEngine
	r *rig
}

func (e lateFailure) Write(b *storage.Batch, sync bool) error {
	e.r.mu.Lock()
	hook := e.r.hook
	e.r.mu.Unlock()
	if !sync || hook == nil {
		return e.diskEngine.Write(b, sync)
	}
	if err := e.Engine.Write(b, false); err != nil {
		return err
	}
	return errors.Join(e.save(), hook())
}

// TestFullDiskWithoutFolder has nothing to reopen; the error stays.
func TestFullDiskWithoutFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.failWrites(storage.ErrNoSpace)
		_, err := r.Propose(t.Context(), put("k", "v"))
		wantError(t, err, kv.Exhausted, kv.Unknown)
		r.onWrite(nil)
		time.Sleep(10 * reopenInterval)
		if r.State() != Failed {
			t.Errorf("state %s", r.State())
		}
	})
}

// TestCloseEndsWaitForSpace closes a replica whose disk stays full.
func TestCloseEndsWaitForSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, onDisk, func(r *rig) {
			open, first := r.opts.Open, true
			r.opts.Open = func(dir string) (storage.Engine, error) {
				if !first {
					return nil, storage.ErrNoSpace
				}
				first = false
				return open(dir)
			}
		})
		r.failWrites(storage.ErrNoSpace)
		if _, err := r.Propose(t.Context(), put("k", "v")); err == nil {
			t.Fatal("the write succeeded")
		}
		time.Sleep(3 * reopenInterval)
		got := make(chan error, 1)
		go func() {
			_, _, _, err := r.Get(context.Background(), []byte("k"), kv.ReadOptions{})
			got <- err
		}()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		wantError(t, <-got, kv.Unavailable, kv.NotApplied)
	})
}

// TestOtherErrorsAreNotWaitedOut: whether a disk that lost a write can be
// trusted is for an operator to say.
func TestOtherErrorsAreNotWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, onDisk)
		r.failWrites(errors.New("input/output error"))
		if _, err := r.Propose(t.Context(), put("k", "v")); err == nil {
			t.Fatal("the write succeeded")
		}
		r.onWrite(nil)
		time.Sleep(10 * reopenInterval)
		if r.State() != Failed {
			t.Errorf("state %s", r.State())
		}
	})
}

func TestStatus(t *testing.T) {
	r := openRig(t, onDisk)
	s := r.Status()
	if s.State != Starting || s.VBucket != "default" || s.Mode != ModeLocal || s.Engine != "memory" ||
		s.Identity.Cluster == "" || s.Identity.History == "" || s.ChangelogFloor != 1 || !s.IsLeader {
		t.Errorf("before Run: %+v", s)
	}
	r.run(context.Background())
	r.mustPut("k", "v")
	s = r.Status()
	if s.State != Serving || s.Applied != 1 || s.Commit != 1 || s.ChangelogBytes == 0 || s.Storage.EstimatedKeys != 1 || s.ReadOnly != "" {
		t.Errorf("serving: %+v", s)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	s = r.Status()
	if s.State != Closed || s.IsLeader || s.Applied != 1 || s.ReadOnly != "the node is shutting down" {
		t.Errorf("closed: %+v", s)
	}
}

// TestReopenKeepsEverything restarts a replica.
func TestReopenKeepsEverything(t *testing.T) {
	r := newRig(t, onDisk)
	r.mustPut("k", "v")
	before := r.Status().Identity
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := newRig(t, inFolderOf(r))
	again.wantValue("k", "v")
	if got := again.Status().Identity; got != before {
		t.Errorf("identity %+v, was %+v", got, before)
	}
	if got := again.mustPut("k2", "v"); got != 2 {
		t.Errorf("the next index is %d", got)
	}
}

func TestOpenFails(t *testing.T) {
	r := openRig(t, onDisk)
	dir := r.opts.Generations.Current()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "checkpoint.mem"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLocal(r.opts); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
}

func TestStatusShowsRequests(t *testing.T) {
	r := newRig(t)
	for client := range uint64(3) {
		c := put("k", "v")
		c.Request = kv.RequestID{Client: client + 1, Sequence: 1}
		r.mustPropose(c)
	}
	if got := r.Status().Requests; got.Entries != 3 || got.Sessions != 3 || got.Bytes == 0 || got.TooLate != 0 {
		t.Errorf("requests %+v", got)
	}
}
