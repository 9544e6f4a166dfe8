package testkit

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("TESTKIT_PRINT_ADDRESS") != "" {
		printAddress()
	}
	goleak.VerifyTestMain(m)
}

// printAddress is what the test binary does as another process: it says which
// address it has been given, and keeps it until its standard input ends.
func printAddress() {
	addrs, err := Addresses(1)
	if err != nil {
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(addrs[0] + "\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

func TestSoonSeesWhatHappensLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if !Soon(func() bool { return time.Since(begun) > Patience/2 }) {
			t.Error("what happened in time was not seen")
		}
		begun = time.Now()
		asked := 0
		if Soon(func() bool { asked++; return false }) {
			t.Error("what never happened was seen")
		}
		if took := time.Since(begun); took < Patience || took > Patience+time.Second {
			t.Errorf("gave up after %v", took)
		}
		if asked > 5000 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// failing is a test that notes its errors.
type failing struct {
	testing.TB
	cleanups []func()
	errs     []any
}

func (f *failing) Cleanup(c func())  { f.cleanups = append(f.cleanups, c) }
func (f *failing) Error(args ...any) { f.errs = append(f.errs, args...) }

func TestRunIsStoppedOnceAndReportsItsError(t *testing.T) {
	f := &failing{TB: t}
	cause := errors.New("cause")
	stop := Run(f, func(ctx context.Context) error { <-ctx.Done(); return cause })
	stop()
	for _, c := range f.cleanups {
		c()
	}
	if !slices.Equal(f.errs, []any{any(cause)}) {
		t.Errorf("errors %v", f.errs)
	}
}

func TestLogIsReadWhileWritten(t *testing.T) {
	var l Log
	log := l.Logger(0)
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() { log.Info("hello") })
	}
	_ = l.String()
	writers.Wait()
	if !l.Has("msg=hello") || l.Count("hello") != 4 {
		t.Errorf("the log is %q", l.String())
	}
}

func TestAddressesAreGivenOnce(t *testing.T) {
	var mu sync.Mutex
	var all []string
	var askers sync.WaitGroup
	for range 8 {
		askers.Go(func() {
			got, err := Addresses(5)
			if err != nil || !slices.IsSorted(got) {
				t.Error(got, err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, got...)
		})
	}
	askers.Wait()
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != 40 {
		t.Errorf("addresses %v", all)
	}
	for _, addr := range all {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			t.Errorf("something listens on %s", addr)
		}
	}
}

// A server comes back on its address, also while many connections are made.
func TestListenAgain(t *testing.T) {
	l := Listen(t)
	for range 20 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	l.Close()
}

func TestProcessesHaveAddressesOfTheirOwn(t *testing.T) {
	mine, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{mine}
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TESTKIT_PRINT_ADDRESS=1")
		keep, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			keep.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
		line := make([]byte, 100)
		n, err := stdout.Read(line)
		if err != nil {
			t.Fatal(err)
		}
		host, _, err := net.SplitHostPort(strings.TrimSpace(string(line[:n])))
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	if len(slices.Compact(hosts)) != 4 {
		t.Errorf("processes share an address: %v", hosts)
	}
}

func TestForward(t *testing.T) {
	l := Listen(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	alias := Forward(t, l.Addr().String())
	if alias == l.Addr().String() {
		t.Fatal("the alias is the address itself")
	}
	c, err := net.Dial("tcp", alias)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(c)
	c.Close()
	if err != nil || string(back) != "hello" {
		t.Errorf("%q came back, %v", back, err)
	}
	// One that is open at the end is cut.
	if c, err = net.Dial("tcp", alias); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
}

func TestRefusing(t *testing.T) {
	addr := Refusing(t)
	if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting to %s: %v", addr, err)
	}
	if l, err := net.Listen("tcp", addr); err == nil {
		l.Close()
		t.Errorf("another server may take %s", addr)
	}
}

func TestUnprivileged(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed")
	if err := os.WriteFile(closed, []byte("x"), 0o000); err != nil {
		t.Fatal(err)
	}
	Unprivileged(t, dir, func() {
		if _, err := os.ReadFile(open); err != nil {
			t.Error(err)
		}
		if _, err := os.ReadFile(closed); !errors.Is(err, os.ErrPermission) {
			t.Errorf("reading what no one may: %v", err)
		}
	})
	if os.Geteuid() == 0 {
		if _, err := os.ReadFile(closed); err != nil {
			t.Errorf("root, afterwards: %v", err)
		}
	}
}
