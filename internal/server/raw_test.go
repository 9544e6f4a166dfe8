package server

import (
	"net"

	"github.com/dkvdb/dkv/internal/testkit/rawgrpc"
)

// attack connects with a client that keeps to no rules. Responses may come as far as
// window says; unless reads is set, not even the socket is read.
func (r *rig) attack(window uint32, reads bool) *rawgrpc.Client {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.opts.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	a, err := rawgrpc.New(conn, window, reads)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		a.Close()
		if reads {
			<-a.Gone
		}
	})
	return a
}
