package server

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// prompt is how long an end may take that silent connections do not hold up: half of what they
// would have left of their time.
const prompt = handshakeTimeout / 2

// silentConnections opens connections that say nothing, or less than a client has to begin with.
func silentConnections(t *testing.T, to net.Addr) {
	t.Helper()
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for _, said := range []string{"", preface[:10], preface, preface + "\x00\x00\x06\x04\x00\x00\x00\x00\x00" + "\x00\x03"} {
		c, err := net.Dial("tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
		// The server's settings show that it has taken the connection.
		if err := c.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

// Connections on which nothing has been said hold up neither the end of a server nor what tells
// its clients to go elsewhere; what is under way is answered.
func TestSilentConnectionsDoNotHoldUpTheDrain(t *testing.T) {
	r := newRig(t)
	begun, release := r.service.hold()
	running := r.call("k")
	<-begun
	silentConnections(t, r.opts.Listener.Addr())
	idle := dial(t, r.opts.Listener.Addr())
	defer idle.Close()
	told := make(chan struct{})
	idle.Connect()
	state := idle.GetState()
	for ; state.String() != "READY"; state = idle.GetState() {
		if !idle.WaitForStateChange(t.Context(), state) {
			t.Fatal("it does not connect")
		}
	}
	go func() {
		defer close(told)
		idle.WaitForStateChange(t.Context(), state)
	}()
	stopped := time.Now()
	r.stop()
	<-told
	if d := time.Since(stopped); d > prompt {
		t.Errorf("clients were told after %v", d)
	}
	release()
	if err := <-running; err != nil {
		t.Errorf("the running request: %v", err)
	}
	<-r.ran
	if d := time.Since(stopped); d > prompt {
		t.Errorf("the server ended after %v", d)
	}
}

// A node that need not wait any more begins to serve at once, with any clients connected to it.
func TestSilentConnectionsDoNotHoldUpTheStart(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := BeginStandIn(StandInOptions{Listener: l, Why: func() string { return "it waits" }})
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, l.Addr())
	defer conn.Close()
	if _, err := serverpb.NewDKVClient(conn).Get(t.Context(), &serverpb.GetRequest{Key: []byte("k")}); err == nil {
		t.Error("it serves")
	}
	silentConnections(t, l.Addr())
	ending := time.Now()
	if err := s.End(); err != nil {
		t.Error(err)
	}
	if d := time.Since(ending); d > prompt {
		t.Errorf("it ended after %v", d)
	}
}
