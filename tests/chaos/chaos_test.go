// Package chaos injects faults into clusters of real dkvsrv processes while clients use
// them, and checks the clients' results: no acknowledged write may be lost, and one order
// of the operations must explain all linearizable ones.
//
// Other tests show that these checks find errors. They give them histories that no
// correct store produces (TestCheckerCanFail), a stale read and a lost write
// (TestBatteryCanFail), and nodes with a built-in fault: syncs that do nothing, change
// records that are written after the data, and compare-and-set by the node's own clock
// (Test...Found). A lease that outlives the wait for its end is part of the lease
// package's simulation.
//
// Each test does a few rounds of its fault. A fault that the host cannot inject is
// skipped by name, which is a failure in CI. For more rounds:
//
//	go test ./tests/chaos -run TestKillLeader -v -chaos.for 10m -chaos.seed 42
//	go test ./tests/chaos -run TestPairPromotesItself -v -chaos.pair 50 -timeout 1h
//	go test ./tests/chaos -run TestRegionIsLost -v -chaos.regions 10
//
// The seed decides which faults happen when, counted in acknowledged writes; the
// operating system's scheduling differs from run to run. Bounds on times apply to the
// quickest round; the tests with the tightest ones run alone. With -artifacts the nodes'
// logs are kept, and a picture of a history that cannot be explained.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dkvdb/dkv/internal/app"
	"github.com/dkvdb/dkv/internal/ctl"
	"github.com/dkvdb/dkv/internal/storage"
)

// dkvctl is the operator's program, the others are those that nodes run.
const (
	dkvctl       = "dkvctl"
	dkvsrv       = "dkvsrv"
	unsynced     = "dkvsrv-unsynced"
	splitBatches = "dkvsrv-split-batches"
	localClock   = "dkvsrv-local-clock"
)

// TestMain makes the test binary act as dkvsrv, or as one with a fault, if it is started
// under that name, so that the nodes always run the code under test.
func TestMain(m *testing.M) {
	serve := func(wrap func(storage.Engine) storage.Engine) func() {
		return func() {
			os.Exit(app.Main(context.Background(), app.Process{
				Args: os.Args[1:], Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, WrapEngine: wrap,
			}))
		}
	}
	testscript.Main(m, map[string]func(){
		dkvsrv: serve(nil),
		unsynced: func() {
			if err := ignoreSyncs(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(cannotInject)
			}
			serve(nil)()
		},
		splitBatches: serve(func(e storage.Engine) storage.Engine { return splitEngine{e} }),
		dkvctl: func() {
			os.Exit(ctl.Main(context.Background(), os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
		},
		localClock: serve(newLocalClockEngine),
	})
}

var (
	runFor = flag.Duration("chaos.for", 0, "repeat each test's fault for so long instead of a few rounds")
	seed   = flag.Uint64("chaos.seed", 1, "seed of what happens when; 0 takes a new one")
	level  = flag.String("chaos.log-level", "info", "log-level of the nodes")
)

// newRand returns the random numbers of a test and logs their seed.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-chaos.seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// rounds yields 0, 1, ... n times, or for as long as the flag says.
func rounds(n int) func(yield func(int) bool) {
	start := time.Now()
	return func(yield func(int) bool) {
		for i := 0; ; i++ {
			if done := i >= n; *runFor == 0 && done || *runFor > 0 && i > 0 && time.Since(start) >= *runFor {
				return
			}
			if !yield(i) {
				return
			}
		}
	}
}

// timed does n rounds of a fault, each of which returns how long clients or slaves noticed
// it. At least one must be within the bound. A busy machine makes some of them slower, so
// there are more rounds, up to ten times as many, until one is.
func timed(t *testing.T, n int, bound time.Duration, what string, round func(i int) time.Duration) {
	t.Helper()
	var took []time.Duration
	for i := range rounds(10 * n) {
		took = append(took, round(i).Round(time.Millisecond))
		if *runFor == 0 && i+1 >= n && slices.Min(took) <= bound {
			break
		}
	}
	t.Logf("%s: %v", what, took)
	if slices.Min(took) > bound {
		t.Errorf("%s: never within %v, but %v", what, bound, took)
	}
}

// lasting is a fault's length.
func lasting(d time.Duration) { <-time.After(d) }

// clock returns the time of day in the format of the nodes' logs.
func clock() string { return time.Now().UTC().Format("15:04:05.000") }
