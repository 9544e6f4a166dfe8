package enginetest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
)

const (
	// crashDirEnv makes a child process the writer, in this folder.
	crashDirEnv = "ENGINETEST_CRASH_DIR"
	// crashSyncEnv says how it makes its writes durable.
	crashSyncEnv = "ENGINETEST_CRASH_SYNC"
	// crashSeedEnv repeats a run with the seed that it logged.
	crashSeedEnv = "ENGINETEST_CRASH_SEED"

	everyWrite   = "write" // Write with sync
	everySeveral = "sync"  // a few writes without, then Sync
	bulkLoad     = "load"  // see crashload.go

	crashRounds   = 5
	unsyncedBurst = 7
	batchKeys     = 5
	// lifetime is for how many batches a batch's temporary keys live.
	lifetime = 20
)

// RunCrash starts the test binary again as a child that writes batch after
// batch and prints the number of each one that is acknowledged as durable,
// kills it with SIGKILL at a random moment, and checks what is left: each
// acknowledged batch whole, no batch in part, and none without those before
// it. It does so several times on the same directory, once with synced writes
// and once with Sync. Bulk loads are killed likewise, each in a directory of its
// own. A killed process does not lose what it has handed to the
// kernel, so this proves atomicity and recovery rather than fsync.
//
// The test that calls RunCrash must do nothing before it.
func RunCrash(t *testing.T, f Factory) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		crashChild(f, dir, os.Getenv(crashSyncEnv))
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(crashSeedEnv); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", crashSeedEnv, err)
		}
	}
	test := t.Name()
	for _, mode := range []string{everyWrite, everySeveral} {
		t.Run(mode, func(t *testing.T) {
			t.Logf("%s=%d", crashSeedEnv, seed)
			rnd := rand.New(rand.NewPCG(seed, uint64(len(mode))))
			dir := t.TempDir()
			last := uint64(0)
			for range crashRounds {
				acked := crashOnce(t, test, dir, mode, 1+rnd.IntN(60))
				last = checkAfterCrash(t, f, dir, max(acked, last))
			}
			t.Logf("%d batches in %d lives", last, crashRounds)
		})
	}
	t.Run(bulkLoad, func(t *testing.T) {
		t.Logf("%s=%d", crashSeedEnv, seed)
		crashLoads(t, f, test, rand.New(rand.NewPCG(seed, uint64(len(bulkLoad)))))
	})
}

// crashOnce runs a child until it has acknowledged so many batches, kills it
// and returns the number of the last one acknowledged.
func crashOnce(t *testing.T, test, dir, mode string, acks int) uint64 {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(test, "/", "$/^")+"$", "-test.v=false")
	child.Env = append(os.Environ(), crashDirEnv+"="+dir, crashSyncEnv+"="+mode)
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var acked uint64
	lines := bufio.NewScanner(stdout)
	for n := 0; lines.Scan(); n++ {
		// After the kill, what the child said last is still in the pipe.
		if number, ok := strings.CutPrefix(lines.Text(), "acked "); ok {
			if acked, err = strconv.ParseUint(number, 10, 64); err != nil {
				t.Fatal(err)
			}
		} else {
			t.Errorf("child says: %s", lines.Text())
		}
		if n == acks {
			_ = child.Process.Kill()
		}
	}
	err = child.Wait()
	if child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return acked
}

// crashChild writes until it is killed.
func crashChild(f Factory, dir, mode string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
	}
	e, err := f.Open(dir)
	fail(err)
	n, err := lastBatch(e)
	fail(err)
	// Half a line is never mistaken for a smaller number: the newline comes
	// in the same write.
	ack := func() { _, err := os.Stdout.WriteString(fmt.Sprintf("acked %d\n", n)); fail(err) }
	if mode == bulkLoad {
		fail(loadChild(e.(storage.BulkLoader), e, func(batch uint64) { n = batch; ack() }))
	}
	var b storage.Batch
	for {
		n++
		fillBatch(&b, n)
		fail(e.Write(&b, mode == everyWrite))
		if mode == everyWrite {
			ack()
		} else if n%unsyncedBurst == 0 {
			fail(e.Sync())
			ack()
		}
	}
}

// lastBatch is the number of the last batch that the engine holds.
func lastBatch(r storage.Reader) (uint64, error) {
	value, found, err := r.Get(storage.Meta, []byte("last"))
	if err != nil || !found {
		return 0, err
	}
	return strconv.ParseUint(string(value), 10, 64)
}

// fillBatch makes batch n: keys that stay, keys that batch n+lifetime removes
// by range, and its number.
func fillBatch(b *storage.Batch, n uint64) {
	b.Reset()
	for i := range batchKeys {
		b.Put(storage.Data, keyOf(n, i), valueOf(n, i))
		b.Put(storage.Changelog, keyOf(n, i), valueOf(n, i))
	}
	if n > lifetime {
		b.DeleteRange(storage.Changelog, keyOf(n-lifetime, 0), keyOf(n-lifetime+1, 0))
	}
	b.Put(storage.Meta, []byte("last"), strconv.AppendUint(nil, n, 10))
}

func keyOf(n uint64, i int) []byte { return fmt.Appendf(nil, "batch%010d/%d", n, i) }

// valueOf gives some batches values of hundreds of kilobytes, so that logs and
// memory tables are switched now and then.
func valueOf(n uint64, i int) []byte {
	size := 50
	if n%16 == 0 && i == 0 {
		size = 400_000
	}
	return pattern(n*batchKeys+uint64(i), size)
}

// checkAfterCrash opens the engine and checks that it holds batches 1 to some
// last one, which is acked or later, whole and nothing else. It returns that
// last one.
func checkAfterCrash(t T, f Factory, dir string, acked uint64) uint64 {
	t.Helper()
	e, err := f.Open(dir)
	if err != nil {
		t.Fatalf("open after a crash: %v", err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close after a crash: %v", err)
		}
	}()
	last, err := lastBatch(e)
	if err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	if last < acked {
		t.Fatalf("batch %d was acknowledged, the engine ends at %d", acked, last)
	}
	x := &fixture{T: t, factory: f, dir: dir, engine: e}
	var data, temporary []pair
	for n := uint64(1); n <= last; n++ {
		for i := range batchKeys {
			p := pair{string(keyOf(n, i)), string(valueOf(n, i))}
			data = append(data, p)
			if n+lifetime > last {
				temporary = append(temporary, p)
			}
		}
	}
	x.wantWalk(e, storage.Data, storage.Range{}, data)
	x.wantWalk(e, storage.Changelog, storage.Range{}, temporary)
	return last
}
