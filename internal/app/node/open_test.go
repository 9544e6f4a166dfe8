package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/testkit"
)

// vessel stands for the replica of a vBucket.
type vessel struct{ closed *atomic.Int32 }

func (v vessel) Close() error { v.closed.Add(1); return nil }

func nodeOf(vBuckets int) *Node {
	cfg := new(config.Config)
	cfg.Node.VBuckets, cfg.Node.VBucket = vBuckets, "default"
	return &Node{Config: cfg, Layout: LayoutOf(cfg)}
}

// Several vBuckets are opened at a time, and all are closed.
func TestVBucketsOpenTogether(t *testing.T) {
	n := nodeOf(64)
	var closed atomic.Int32
	var together sync.WaitGroup
	together.Add(opensAtOnce)
	all, err := OpenEach(testkit.Within(t, testkit.Patience), n, func(i int, name string) (vessel, error) {
		if i < opensAtOnce {
			together.Done()
			together.Wait() // for ever, if they come one after another
		}
		return vessel{&closed}, nil
	})
	if err != nil || len(all) != 64 {
		t.Fatalf("%d, %v", len(all), err)
	}
	if err := n.Close(); err != nil || closed.Load() != 64 {
		t.Errorf("%d closed, %v", closed.Load(), err)
	}
}

// A node that is told to stop while it opens opens no more, and closes what it has.
func TestOpeningEndsWithItsContext(t *testing.T) {
	n := nodeOf(1024)
	ctx, stop := context.WithCancel(t.Context())
	var opened, closed atomic.Int32
	_, err := OpenEach(ctx, n, func(int, string) (vessel, error) {
		if opened.Add(1) == 10 {
			stop()
		}
		return vessel{&closed}, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := opened.Load(); got >= 1024 {
		t.Error("all were opened")
	}
	if err := n.Close(); err != nil || closed.Load() != opened.Load() {
		t.Errorf("%d of %d are closed, %v", closed.Load(), opened.Load(), err)
	}
}

// A vBucket that does not open says so, and the others are closed.
func TestVBucketThatDoesNotOpen(t *testing.T) {
	n := nodeOf(64)
	broken := errors.New("broken")
	var opened, closed atomic.Int32
	_, err := OpenEach(t.Context(), n, func(i int, name string) (vessel, error) {
		if name == "7" {
			return vessel{}, broken
		}
		opened.Add(1)
		return vessel{&closed}, nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if err := n.Close(); err != nil || closed.Load() != opened.Load() {
		t.Errorf("%d of %d are closed, %v", closed.Load(), opened.Load(), err)
	}
}

// TestStartOnADiskThatTakesNothing: the error of a start says what to do about the disk, once.
func TestStartOnADiskThatTakesNothing(t *testing.T) {
	path := func(errno syscall.Errno) error { return &fs.PathError{Op: "open", Path: "/x/node.json", Err: errno} }
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("identity file: %w", path(syscall.ENOSPC)), "; make room on that file system and start again"},
		{OpenError(path(syscall.ENOSPC)), "; make room on the file system of db-folder and start again"},
		{path(syscall.EROFS), "; dmesg says why that file system cannot be written to; repair it, mount it for writing and start again"},
		{path(syscall.EACCES), ": permission denied"},
	} {
		got := StartError(c.err)
		if !strings.HasSuffix(got.Error(), c.want) || strings.Count(got.Error(), "start again") > 1 || !errors.Is(got, c.err) {
			t.Errorf("%v", got)
		}
	}
}
