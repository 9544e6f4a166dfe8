package conns

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a bounded listener whose connections a test holds.
type rig struct {
	*Listener
	t        *testing.T
	accepted chan *Conn
	log      *testkit.Log
}

// failing is a listener that first returns errors.
type failing struct {
	net.Listener
	mu   sync.Mutex
	errs []error
}

func (f *failing) fail(errs ...error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, errs...)
}

func (f *failing) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || len(f.errs) == 0 {
		return c, err
	}
	// The connection waits in the kernel, as far as a test can tell: another one
	// takes its place.
	c.Close()
	err, f.errs = f.errs[0], f.errs[1:]
	return nil, err
}

func newRig(t *testing.T, opts Options) (*rig, *failing) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{Listener: l}
	r := &rig{t: t, accepted: make(chan *Conn, 100), log: &testkit.Log{}}
	opts.Log = r.log.Logger(slog.LevelInfo)
	opts.Refusal = func(reason string) []byte { return []byte(reason) }
	opts.Key, opts.HostKey = "max-connections", "max-connections-per-host"
	r.Listener = Limit(f, opts)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := r.Accept()
			switch {
			case err == nil:
				r.accepted <- c.(*Conn)
			case errors.Is(err, net.ErrClosed):
				return
			}
		}
	})
	t.Cleanup(func() {
		r.Listener.Close()
		accepting.Wait()
		for close(r.accepted); ; {
			c, more := <-r.accepted
			if !more {
				return
			}
			c.Close()
		}
	})
	return r, f
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// open connects, and returns the connection's end at the server.
func (r *rig) open() (client net.Conn, server *Conn) {
	r.t.Helper()
	client = r.dial()
	return client, <-r.accepted
}

// refused returns what a connection is told before it is closed.
func refused(t *testing.T, c net.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	text, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	return string(text)
}

// age makes a connection look as if it had been idle for as long as it takes.
func (c *Conn) age() {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.opened = c.opened.Add(-2 * minIdle)
}

func TestConnectionsAreBounded(t *testing.T) {
	r, _ := newRig(t, Options{Max: 2})
	_, first := r.open()
	r.open()
	const want = "2 connections are open, which is the limit (max-connections)"
	for range 3 {
		if got := refused(t, r.dial()); got != want {
			t.Errorf("refused with %q, want %q", got, want)
		}
	}
	if got := r.Stats(); got != (Stats{Open: 2, Refused: 3}) {
		t.Errorf("%+v", got)
	}
	if log := r.log; log.Count("connections are refused") != 1 || !log.Has("max-connections") {
		t.Errorf("logged %s", log)
	}
	first.Close()
	first.Close()
	r.open()
	if got := r.Stats().Open; got != 2 {
		t.Errorf("%d are open", got)
	}
}

func TestConnectionsOfAHostAreBounded(t *testing.T) {
	r, _ := newRig(t, Options{Max: 10, MaxPerHost: 1})
	r.open()
	want := "1 connections of 127.0.0.1 are open, which is the limit for one host (max-connections-per-host)"
	if got := refused(t, r.dial()); got != want {
		t.Errorf("refused with %q, want %q", got, want)
	}
}

// A connection takes the place of one that does nothing: first of one that never
// did, then of the one that did something longest ago.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	r, _ := newRig(t, Options{Max: 3})
	_, busy := r.open()
	busy.Begin()
	busy.age()
	_, used := r.open()
	used.Begin()
	used.End()
	used.used.Add(-2 * int64(minIdle))
	unused, fresh := r.open()
	fresh.age()
	_, next := r.open()
	if got := refused(t, unused); got != "" {
		t.Errorf("the one that makes room is told %q", got)
	}
	if fresh.Work() != 0 || r.Stats() != (Stats{Open: 3, Displaced: 1}) {
		t.Errorf("%+v", r.Stats())
	}
	r.open() // instead of the one that was used
	if used.retire() {
		t.Error("the one that was used is there")
	}
	// One is at work, and the others have just come.
	if got := refused(t, r.dial()); !strings.Contains(got, "which is the limit") {
		t.Errorf("refused with %q", got)
	}
	next.Close()
}

// Work that begins while a connection is looked at keeps it.
func TestWorkKeepsAConnection(t *testing.T) {
	r, _ := newRig(t, Options{Max: 1})
	_, c := r.open()
	c.age()
	if !c.idle(time.Now()) {
		t.Fatal("it is not idle")
	}
	c.Begin()
	if c.retire() {
		t.Error("it is given up while it works")
	}
	c.End()
	if !c.retire() {
		t.Error("it is not given up")
	}
}

// Without file descriptors an idle connection is closed for the next one, and with
// none idle the one that is kept back serves.
func TestOutOfFiles(t *testing.T) {
	full := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	r, f := newRig(t, Options{Max: 10, Spare: true})
	_, idle := r.open()
	idle.age()
	f.fail(full)
	r.dial() // fails, and closes the idle one
	r.open()
	if got := r.Stats().Displaced; got != 1 {
		t.Errorf("%d made room", got)
	}
	f.fail(full)
	r.dial()
	_, c := r.open()
	if !c.onSpare || r.spare.held() {
		t.Fatal("it is not on the spare descriptor")
	}
	c.Close()
	if !r.spare.held() {
		t.Error("the descriptor is not kept back again")
	}
}

func (s *spare) held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file != nil
}

func TestHosts(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:80":               "192.0.2.1",
		"[::ffff:192.0.2.1]:80":      "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:80":  "2001:db8:1:2::",
		"[2001:db8:1:2:aaaa::1]:443": "2001:db8:1:2::",
		"[::1]:80":                   "::1",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostOf(tcp).String(); got != want {
			t.Errorf("%s counts for %s, want %s", addr, got, want)
		}
	}
	if hostOf(&net.UnixAddr{}).IsValid() {
		t.Error("a unix socket has a host")
	}
}

// An unfinished handshake makes room before a connection that was never used, even an older
// one.
func TestUnfinishedHandshakeGoesFirst(t *testing.T) {
	r, _ := newRig(t, Options{Max: 2, Handshake: true})
	_, ready := r.open()
	ready.Ready(nil)
	_, unready := r.open()
	if !unready.before(ready) || ready.before(unready) {
		t.Error("the older connection goes first, though it is ready")
	}
	unready.Ready(nil)
	if unready.before(ready) || !ready.before(unready) {
		t.Error("of two that are ready, the newer one goes first")
	}
}

// TestUnusedConnectionsAreDropped: those with a call, now or before, are left.
func TestUnusedConnectionsAreDropped(t *testing.T) {
	r, _ := newRig(t, Options{})
	silent, _ := r.open()
	_, working := r.open()
	working.Begin()
	_, used := r.open()
	used.Begin()
	used.End()
	r.DropUnused()
	if err := silent.SetReadDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the silent one: %v", err)
	}
	if open := r.Stats().Open; open != 2 {
		t.Errorf("%d are open", open)
	}
}
