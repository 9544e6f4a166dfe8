package server

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// places are what requests of one kind take while they are under way.
type places struct {
	most  int64
	taken atomic.Int64
	// searched is when requests to give up were last searched for without success, in Unix
	// nanoseconds.
	searched atomic.Int64
}

const (
	// placesAtOnce is how many requests that do not arrive are ended at once.
	placesAtOnce = 128
	// placePause bounds how often they are searched for.
	placePause = 10 * time.Millisecond
)

// occupy takes a place, and reports whether there was one, or could be made. It is taken in
// any case, until the call leaves.
func (k *call) occupy(p *places) bool {
	n := p.taken.Add(1)
	k.place.Store(p)
	// Places may be free after a search in vain: another call has made them.
	return n <= p.most || k.calls.makePlace(p) || p.taken.Load() <= p.most
}

// giveBack gives back the place that the call holds, if any. The handler of a call that was
// ended may take a while to notice, and others do not wait for that.
func (k *call) giveBack() {
	if p := k.place.Swap(nil); p != nil {
		p.taken.Add(-1)
	}
}

// makePlace ends requests that were announced and do not arrive, to make room for others.
// It reports whether there were any.
func (c *calls) makePlace(p *places) bool {
	now := time.Now()
	if now.UnixNano()-p.searched.Load() < int64(placePause) {
		return false
	}
	ended := 0
	for _, conn := range c.conns() {
		for _, k := range conn.idlers(p, now.Add(-stale), placesAtOnce-ended) {
			if k.endRequest(exhausted(requestPause,
				"nothing came of the request for %v, and others need its place (max-requests-in-flight); send it again (not applied)", stale)) {
				ended++
				c.limited(limitInFlight)
			}
		}
	}
	if ended == 0 {
		p.searched.Store(now.UnixNano())
	}
	return ended > 0
}

// idlers returns up to n calls that hold places, and of which nothing has arrived since a
// time.
func (c *conn) idlers(p *places, since time.Time, n int) (out []*call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.byStream {
		if len(out) >= n {
			break
		}
		if k.place.Load() == p && k.receiving.Load() && k.moved.Before(since) {
			out = append(out, k)
		}
	}
	return out
}

// waiting are the requests that wait for something, and hold no places meanwhile.
type waiting struct {
	most int64

	mu sync.Mutex
	n  int64                // in all
	of map[netip.Addr]int64 // of each host; none is 0
}

// sparing is how many times as many requests of a host may wait as there is room for yet. One that
// is alone gets no further than seven eighths, and others find room beside it.
const sparing = 7

// enter counts a request of a host; its error is that of one beyond the limit. Those that wait cannot
// be ended for others.
func (w *waiting) enter(host netip.Addr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch n := w.of[host]; {
	case w.n >= w.most:
		return kv.Errorf(kv.Exhausted, "%d requests wait for a newer state or for room, which is the limit (a quarter of max-requests-in-flight); retry later, or ask another node (not applied)", w.most)
	case n >= sparing*(w.most-w.n):
		return kv.Errorf(kv.Exhausted, "%d requests of this host wait for a newer state or for room, and other hosts get what is left of %d (a quarter of max-requests-in-flight); retry later, or ask another node (not applied)", n, w.most)
	}
	w.of[host]++
	w.n++
	return nil
}

// leave undoes enter.
func (w *waiting) leave(host netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n--
	if w.of[host]--; w.of[host] == 0 {
		delete(w.of, host)
	}
}

func (w *waiting) count() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}
