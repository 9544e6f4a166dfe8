package certs

import (
	"net"
	"testing"
	"testing/synctest"
)

// held is a listener whose Accept returns after Close only when it is released.
type held struct {
	net.Listener
	released chan struct{}
}

func (h *held) Accept() (net.Conn, error) { <-h.released; return nil, net.ErrClosed }
func (h *held) Close() error              { return nil }

// The listener below may have another owner after Close, who would lose the connections that
// are still accepted here.
func TestNothingIsAcceptedAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &held{released: make(chan struct{})}
		l := new(Acceptor).Listen(below)
		accepted, closed := make(chan error, 1), make(chan error, 1)
		go func() { _, err := l.Accept(); accepted <- err }()
		synctest.Wait()
		go func() { closed <- l.Close() }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close has returned while the listener below accepts")
		default:
		}
		close(below.released)
		synctest.Wait()
		if err := <-accepted; err == nil {
			t.Error("a connection was accepted")
		}
		select {
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("Close has not returned")
		}
	})
}

func TestCloseOfAListenerThatAcceptedNothing(t *testing.T) {
	below := &held{released: make(chan struct{})}
	if err := new(Acceptor).Listen(below).Close(); err != nil {
		t.Error(err)
	}
}
