package faults

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func quiet() *Faults { return New(slog.New(slog.DiscardHandler)) }

// pipes is a listener whose connections are pipes.
type pipes struct{ next chan net.Conn }

func (p pipes) Accept() (net.Conn, error) { return <-p.next, nil }
func (pipes) Close() error                { return nil }
func (pipes) Addr() net.Addr              { return &net.TCPAddr{} }

// accepted returns both ends of a connection that a node accepts.
func accepted(t *testing.T, f *Faults, ofNodes bool) (node, other net.Conn) {
	t.Helper()
	node, other = net.Pipe()
	next := make(chan net.Conn, 1)
	next <- node
	node, err := f.Listen(pipes{next}, ofNodes).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = node.Close(), other.Close() })
	return node, other
}

// dialled returns both ends of a connection that a node makes.
func dialled(t *testing.T, f *Faults, address string) (node, other net.Conn) {
	t.Helper()
	in, other := net.Pipe()
	node, err := f.Dial(t.Context(), address, func(context.Context) (net.Conn, error) { return in, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = node.Close(), other.Close() })
	return node, other
}

func begin(t *testing.T, f *Faults, fault Fault) *Active {
	t.Helper()
	a, err := f.Begin(fault)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// passes returns when a byte that is sent at once has come.
func passes(t *testing.T, from, to net.Conn) time.Duration {
	t.Helper()
	begun := time.Now()
	go func() { _, _ = from.Write([]byte("x")) }()
	if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	return time.Since(begun)
}

// TestFaultEndsByItself: the node ends it after its time, though its caller never does.
func TestFaultEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := quiet()
		node, other := accepted(t, f, false)
		a := begin(t, f, Fault{Kind: Silent, For: 10 * time.Second})
		if took := passes(t, other, node); took != 10*time.Second {
			t.Errorf("a byte has come after %s", took)
		}
		<-a.Ended()
		if f.Now() != nil {
			t.Error("the fault is still active")
		}
		if took := passes(t, node, other); took != 0 {
			t.Errorf("a byte goes out after %s", took)
		}
		begin(t, f, Fault{Kind: Silent, For: time.Second}).End()
		if f.Now() != nil {
			t.Error("the fault is active after End")
		}
		a.End()
	})
}

// TestWhatFaultsHold lists which connections each fault holds.
func TestWhatFaultsHold(t *testing.T) {
	for _, c := range []struct {
		fault                Fault
		client, raft, dialed bool
	}{
		{Fault{Kind: Silent}, true, true, true},
		{Fault{Kind: Partition}, false, true, true},
		{Fault{Kind: Unreachable, Address: "b:1"}, false, false, false},
		{Fault{Kind: SlowDisk, Delay: time.Second}, false, false, false},
		{Fault{Kind: Silent, Exempt: "pipe"}, false, false, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := quiet()
			client, clientEnd := accepted(t, f, false)
			raft, raftEnd := accepted(t, f, true)
			out, outEnd := dialled(t, f, "a:1")
			c.fault.For = 5 * time.Second
			for name, way := range map[string]struct {
				from, to net.Conn
				held     bool
			}{
				"from a client": {clientEnd, client, c.client}, "to a client": {client, clientEnd, c.client},
				"from the Raft port": {raftEnd, raft, c.raft}, "to it": {raft, raftEnd, c.raft},
				"to a node": {out, outEnd, c.dialed}, "from a node": {outEnd, out, c.dialed},
			} {
				a := begin(t, f, c.fault)
				if took := passes(t, way.from, way.to); took != map[bool]time.Duration{true: 5 * time.Second}[way.held] {
					t.Errorf("%s: a byte %s takes %s", c.fault, name, took)
				}
				a.End()
			}
		})
	}
}

// TestUnreachable closes and refuses connections to one address.
func TestUnreachable(t *testing.T) {
	f := quiet()
	near, _ := dialled(t, f, "a:1")
	far, farEnd := dialled(t, f, "b:1")
	defer begin(t, f, Fault{Kind: Unreachable, Address: "a:1", For: time.Minute}).End()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a read of the open connection: %v", err)
	}
	passes(t, far, farEnd)
	_, err := f.Dial(t.Context(), "a:1", func(context.Context) (net.Conn, error) { panic("it must not be called") })
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("another connection: %v", err)
	}
}

// TestHeldReadsAndWritesKeepDeadlines, and what came before one is read after the fault.
func TestHeldReadsAndWritesKeepDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := quiet()
		node, other := accepted(t, f, false)
		begin(t, f, Fault{Kind: Silent, For: 10 * time.Second})
		sent := make(chan struct{})
		go func() { _, _ = other.Write([]byte("abc")); close(sent) }()
		if err := node.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := node.Read(make([]byte, 9)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d, %v", n, err)
		}
		<-sent
		if err := node.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(time.Second, func() { _ = node.SetWriteDeadline(time.Unix(1, 0)) })
		defer late.Stop()
		if _, err := node.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a write: %v", err)
		}
		if p, err := io.ReadAll(io.LimitReader(node, 3)); string(p) != "abc" || err != nil {
			t.Errorf("after the fault: %q, %v", p, err)
		}
		if f.Now() != nil {
			t.Error("it was read during the fault")
		}
	})
}

// TestCloseEndsWhatIsHeld: a node stops during a fault.
func TestCloseEndsWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := quiet()
		node, _ := accepted(t, f, false)
		defer begin(t, f, Fault{Kind: Silent, For: time.Minute}).End()
		time.AfterFunc(time.Second, func() { _ = node.Close() })
		if _, err := node.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, begun := quiet(), time.Now()
		begin(t, f, Fault{Kind: SlowDisk, Delay: 300 * time.Millisecond, For: 500 * time.Millisecond})
		for _, want := range []time.Duration{300, 500, 500} {
			if f.Sync(); time.Since(begun) != want*time.Millisecond {
				t.Errorf("after %s, want %d ms", time.Since(begun), want)
			}
		}
	})
}

// TestShortestFaults end as well, and the metric says so.
func TestShortestFaults(t *testing.T) {
	f := quiet()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(f)
	for range 200 {
		<-begin(t, f, Fault{Kind: Silent, For: 1}).Ended()
		if f.Now() != nil {
			t.Fatal("the fault is active after its end")
		}
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range families {
			if m.GetName() == "dkv_drill_fault" && m.GetMetric()[0].GetGauge().GetValue() != 0 {
				t.Fatal("the metric shows a fault that has ended")
			}
		}
	}
}

func TestOneFaultAtATime(t *testing.T) {
	f := quiet()
	defer begin(t, f, Fault{Kind: Partition, For: time.Minute}).End()
	if _, err := f.Begin(Fault{Kind: Silent, For: time.Second}); !errors.Is(err, ErrActive) {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	for _, bad := range []Fault{
		{Kind: "fire", For: time.Second},
		{Kind: Silent},
		{Kind: Silent, For: Longest + 1},
		{Kind: Unreachable, For: time.Second},
		{Kind: SlowDisk, For: time.Second},
		{Kind: SlowDisk, For: time.Second, Delay: MostDelay + 1},
	} {
		if _, err := quiet().Begin(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestWithoutAgreement: a node that has not agreed to drills has no wrapped connections.
func TestWithoutAgreement(t *testing.T) {
	var f *Faults
	l := pipes{}
	in, _ := net.Pipe()
	defer in.Close()
	out, err := f.Dial(t.Context(), "a:1", func(context.Context) (net.Conn, error) { return in, nil })
	if f.Listen(l, true) != net.Listener(l) || out != in || err != nil || f.Now() != nil {
		t.Error("connections are wrapped")
	}
	if allocs := testing.AllocsPerRun(100, f.Sync); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
