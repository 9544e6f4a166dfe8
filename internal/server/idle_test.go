package server

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// pipes is a listener in memory: its connections have deadlines by the time of a synctest
// bubble.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	close    sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

func (p *pipes) dial(context.Context, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.accepted <- server
	return client, nil
}

// newPipes returns a rig that serves in memory.
func newPipes(t *testing.T) (*rig, *pipes) {
	p := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
	return newRig(t, func(o *Options) {
		if err := o.Listener.Close(); err != nil {
			t.Fatal(err)
		}
		o.Listener = p
	}), p
}

// A connection that does not begin to speak HTTP/2 is closed.
func TestSilentConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := newPipes(t)
		c, err := p.dial(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begun := time.Now()
		_, _ = io.Copy(io.Discard, c) // ends when the server closes the connection
		if d := time.Since(begun); d > handshakeTimeout+time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

// A client that makes no calls for long is asked to open another connection once it does.
func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p := newPipes(t)
		conn, err := grpc.NewClient("passthrough:///node", grpc.WithContextDialer(p.dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		get := func() {
			t.Helper()
			if _, err := serverpb.NewDKVClient(conn).Get(t.Context(), &serverpb.GetRequest{Key: []byte("k")}); err != nil {
				t.Error(err)
			}
		}
		get()
		time.Sleep(maxIdle / 2)
		if open := r.gauge("dkv_connections"); open != 1 {
			t.Errorf("%v connections are open before the time", open)
		}
		time.Sleep(maxIdle/2 + time.Minute)
		synctest.Wait()
		if open := r.gauge("dkv_connections"); open != 0 || conn.GetState() != connectivity.Idle {
			t.Errorf("%v connections are open, the client is %v", open, conn.GetState())
		}
		get()
	})
}

// A host that opens thousands of connections and says nothing keeps no one out, and holds
// no more than its share.
func TestManyIdleConnections(t *testing.T) {
	const most, ofHost, many = 100, 60, 2000
	r := newRig(t, func(o *Options) { o.MaxConnections, o.MaxConnectionsPerHost = most, ofHost })
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range many {
		c, err := from.DialContext(t.Context(), "tcp", r.opts.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	r.others()
	// Silent ones are closed in time, and others are let in then: how many depends on how long it takes to open them all.
	testkit.Eventually(t, "most connections were refused", func() bool { return r.hits(limitConnections) >= many/2 })
	if open := r.gauge("dkv_connections"); open > ofHost+2 {
		t.Errorf("%v connections are open", open)
	}
}
