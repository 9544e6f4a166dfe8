package transport

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/conns"
	"github.com/dkvdb/dkv/internal/testkit"
)

// vanish has a node lose, unanswered, all that comes on the connections that it has, as if
// its host were gone.
func (n *node) vanish() {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.transport.mu.Lock()
	defer n.transport.mu.Unlock()
	none := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	for c := range n.open {
		raw, err := c.(*conns.Conn).Conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			n.t.Fatal(err)
		}
		control := func(fd uintptr) {
			err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &none[0]})
		}
		if failed := raw.Control(control); failed != nil || err != nil {
			n.t.Fatal(failed, err)
		}
	}
}

// A peer whose host is gone without a word is given up soon, so that it is connected to
// again when it comes back.
func TestPeerThatVanishesIsGivenUp(t *testing.T) {
	a := start(t, func(_ *node, o *Options) { o.limits.unheard = 300 * time.Millisecond })
	b := start(t)
	line := a.connect(t.Context(), b.addr)
	if err := line.SendMessageBatch(batch(1, 1)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it comes", func() bool { return len(b.received()) == 1 })
	b.vanish()
	testkit.Eventually(t, "messages come again", func() bool {
		if line.SendMessageBatch(batch(2, 1)) != nil { // as Dragonboat does
			line = a.connect(t.Context(), b.addr)
		}
		return len(b.received()) > 1
	})
}
