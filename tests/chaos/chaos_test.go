// Package chaos breaks clusters of real dkvsrv processes while clients use them,
// and looks at what the clients were told: no acknowledged write may be lost, and
// everything linearizable must be explained by one order of the operations.
//
// That the battery can fail is shown by giving it what must not happen: made up
// histories (TestCheckerCanFail), a stale read and a lost write (TestBatteryCanFail),
// and nodes with a fault built in, whose syncs do nothing, whose change records are
// written behind the data, or who compare and set by their own clocks (Test...Found).
// A lease that outlives the wait for its end is a rule of the simulation in
// internal/replica/raft/lease.
//
// Each test does a few rounds of its fault. A fault that the host cannot inject is
// skipped by name, which fails in CI. For more rounds:
//
//	go test ./tests/chaos -run TestKillLeader -v -chaos.for 10m -chaos.seed 42
//
// The seed sets which faults happen when, counted in acknowledged writes; what the
// operating system makes of it differs from run to run. Bounds on times are held
// against the median of the rounds; the tests of the tightest run alone. With
// -artifacts the nodes' logs and a picture of a history that cannot be explained
// are kept.
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
	"github.com/dkvdb/dkv/internal/storage"
)

// The programs that nodes run.
const (
	dkvsrv       = "dkvsrv"
	unsynced     = "dkvsrv-unsynced"
	splitBatches = "dkvsrv-split-batches"
	localClock   = "dkvsrv-local-clock"
)

// TestMain makes the test binary dkvsrv if it is started under that name, so that
// the nodes are always the code under test; or one with a fault.
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
		localClock:   serve(newLocalClockEngine),
	})
}

var (
	runFor = flag.Duration("chaos.for", 0, "repeat each test's fault for so long instead of a few rounds")
	seed   = flag.Uint64("chaos.seed", 0, "seed of what happens when; 0 takes a new one")
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

// median is what a contract about times is held against: a busy machine has its
// outliers.
func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

// lasting is a fault's length.
func lasting(d time.Duration) { <-time.After(d) }

// clock is the time of day as the nodes' logs have it.
func clock() string { return time.Now().UTC().Format("15:04:05.000") }
