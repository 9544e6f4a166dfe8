package slave

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

// farConn is a connection on which everything arrives later, in each direction.
type farConn struct {
	net.Conn
	delay   time.Duration
	in, out chan parcel
	rest    bytes.Buffer
	closed  chan struct{}
	once    sync.Once
}

// parcel is on its way until a time.
type parcel struct {
	until time.Time
	data  []byte
	err   error
}

func newFarConn(c net.Conn, delay time.Duration) *farConn {
	f := &farConn{Conn: c, delay: delay, in: make(chan parcel, 1<<16), out: make(chan parcel, 1<<16), closed: make(chan struct{})}
	go f.receive()
	go f.send()
	return f
}

func (f *farConn) receive() {
	for {
		buf := make([]byte, 32<<10)
		n, err := f.Conn.Read(buf)
		select {
		case f.in <- parcel{time.Now().Add(f.delay), buf[:n], err}:
		case <-f.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

func (f *farConn) send() {
	for {
		select {
		case p := <-f.out:
			if !f.arrive(p) {
				return
			}
			if _, err := f.Conn.Write(p.data); err != nil {
				return
			}
		case <-f.closed:
			return
		}
	}
}

// arrive waits until a parcel is there; false if the connection is closed before.
func (f *farConn) arrive(p parcel) bool {
	t := time.NewTimer(time.Until(p.until))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-f.closed:
		return false
	}
}

func (f *farConn) Read(b []byte) (int, error) {
	if f.rest.Len() == 0 {
		select {
		case p := <-f.in:
			if !f.arrive(p) {
				return 0, net.ErrClosed
			}
			if p.err != nil {
				return 0, p.err
			}
			f.rest.Write(p.data)
		case <-f.closed:
			return 0, net.ErrClosed
		}
	}
	return f.rest.Read(b)
}

func (f *farConn) Write(b []byte) (int, error) {
	select {
	case f.out <- parcel{until: time.Now().Add(f.delay), data: append([]byte(nil), b...)}:
		return len(b), nil
	case <-f.closed:
		return 0, net.ErrClosed
	}
}

func (f *farConn) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.Conn.Close()
}

// TestAFarSlaveConfirmsWithinOneRoundTrip: each of many changes is confirmed one round trip after
// it was made, although others are on their way: none waits for the answer to one before.
// Time is virtual here, so that what is measured is the number of ways, and nothing else.
func TestAFarSlaveConfirmsWithinOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const oneWay, apart, changes = 25 * time.Millisecond, 3 * time.Millisecond, 100
		r := newRig(t)
		r.delay = oneWay
		m := r.master("m1:1")
		m.put("k", "0")
		s := r.slave(source.Fixed("m1:1"), streaming, reporting(t, r))
		s.has(m)
		m.owner.want(&peerpb.Wanted{Listed: true})
		first := m.put("k", "1")
		m.owner.confirmed(t, "the slave confirms", func(c *peerpb.Confirmation) bool { return c.GetReceived() >= first })
		time.Sleep(time.Minute)
		made := make(map[kv.Index]time.Time)
		for range changes {
			made[m.put("k", "v")] = time.Now()
			time.Sleep(apart)
		}
		testkit.Eventually(t, "all are confirmed", func() bool { _, all := m.owner.after(made); return all })
		took, _ := m.owner.after(made)
		if limit := 2*oneWay + 2*streamPace; took > limit {
			t.Errorf("a change was confirmed after %v, and a round trip takes %v", took, 2*oneWay)
		} else {
			t.Logf("a round trip takes %v, and the slowest of %d changes took %v", 2*oneWay, changes, took)
		}
	})
}

// streamPace is how long a master lets changes gather; see package replication.
const streamPace = 2 * time.Millisecond

// after returns the longest time from a change to its confirmation, and whether all are
// confirmed.
func (o *owner) after(made map[kv.Index]time.Time) (longest time.Duration, all bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for index, begun := range made {
		found := false
		for i, c := range o.heard {
			if found = c.GetReceived() >= index; found {
				longest = max(longest, o.times[i].Sub(begun))
				break
			}
		}
		if !found {
			return 0, false
		}
	}
	return longest, true
}

// TestLargeChangeOnASlowLine takes its time. A slave that gave it up would have it sent again, for ever.
func TestLargeChangeOnASlowLine(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		r.rate.Store(128 << 10)
		m := r.master("m1:1")
		m.put("a", "1")
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		m.write(kv.Mutation{Key: []byte("large"), Value: make([]byte, 5<<20)}) // 40 s
		time.Sleep(10 * time.Minute)
		s.has(m)
		if st := s.Puller.Status(); st.Bytes > 20<<20 || s.Healthy() != nil {
			t.Errorf("%d bytes were received; %v", st.Bytes, s.Healthy())
		}
	})
}
