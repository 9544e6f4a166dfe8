package timerslack

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// variable has the test's own program print the slack of a thread, and end.
const variable = "DKV_TEST_PRINT_SLACK"

func TestMain(m *testing.M) {
	if os.Getenv(variable) == "" {
		os.Exit(m.Run())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // not the first thread, which is the caller's
		os.Stdout.WriteString(strconv.Itoa(slack()))
	})
	wg.Wait()
}

// slack is that of the calling thread, in nanoseconds.
func slack() int {
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return -1
	}
	return ns
}

func TestSlack(t *testing.T) {
	for _, c := range []struct{ given, want int }{
		{50_000, 1_000_000},
		{200_000, 200_000},
		{5_000_000, 5_000_000},
	} {
		if got := startedWith(t, c.given); got != c.want {
			t.Errorf("a process that is started with a slack of %d ns has %d, want %d", c.given, got, c.want)
		}
	}
}

// startedWith returns the slack of a process whose parent has the given one.
func startedWith(t *testing.T, given int) int {
	t.Helper()
	type outcome struct {
		out []byte
		err error
	}
	done := make(chan outcome)
	go func() {
		// The thread ends with the goroutine, so that its slack is not that of others.
		runtime.LockOSThread()
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(given), 0, 0, 0); err != nil {
			done <- outcome{nil, err}
			return
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), variable+"=1")
		out, err := cmd.Output()
		done <- outcome{out, err}
	}()
	o := <-done
	if o.err != nil {
		t.Fatal(o.err)
	}
	ns, err := strconv.Atoi(strings.TrimSpace(string(o.out)))
	if err != nil {
		t.Fatal(err)
	}
	return ns
}
