package ops

import (
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/conns"
)

// places are those of requests of one kind by whose they are, so that one caller cannot keep all
// others out: with streams that go on, or with requests and answers that it leaves halfway.
type places struct {
	most int

	mu sync.Mutex
	of map[string][]*place // in the order in which they were taken; none is empty
	n  int
}

// place is that of a request. end is called, once and with the lock of the places held, when it
// has made room for another one.
type place struct {
	whose string
	end   func()
}

// take takes a place for a request. If there is none, the newest request of the caller with the
// most of them makes room, unless that has hardly more than this one; it returns nil then.
func (r *places) take(whose string, end func()) *place {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n >= r.most && !r.makeRoom(len(r.of[whose])) {
		return nil
	}
	out := &place{whose: whose, end: end}
	if r.of == nil {
		r.of = make(map[string][]*place)
	}
	r.of[whose] = append(r.of[whose], out)
	r.n++
	return out
}

// makeRoom ends a request of a caller that has at least two more than own. mu is held.
func (r *places) makeRoom(own int) bool {
	var busiest []*place
	for _, of := range r.of {
		if len(of) > len(busiest) {
			busiest = of
		}
	}
	if len(busiest) < own+2 {
		return false
	}
	newest := busiest[len(busiest)-1]
	newest.end()
	r.drop(newest)
	return true
}

// leave gives a place back, which the request may have lost to another one before.
func (r *places) leave(one *place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(one)
}

// drop is leave with mu held.
func (r *places) drop(one *place) {
	of := r.of[one.whose]
	i := slices.Index(of, one)
	if i < 0 {
		return
	}
	r.n--
	if of = slices.Delete(of, i, i+1); len(of) == 0 {
		delete(r.of, one.whose)
		return
	}
	r.of[one.whose] = of
}

// callerName is who makes a request: its identity, or without one the host that it comes from.
// One host of IPv6 has many addresses.
func callerName(r *http.Request) string {
	if id := auth.FromContext(r.Context()); id != nil && authenticated(r) {
		return "identity " + id.Name
	}
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // no address is a host like others
	return "host " + conns.HostOf(from.Addr()).String()
}
