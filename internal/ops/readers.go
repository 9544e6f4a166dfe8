package ops

import (
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"github.com/dkvdb/dkv/internal/auth"
)

// readers are the open streams by whose they are, so that one caller cannot keep all others
// from watching.
type readers struct {
	most int

	mu sync.Mutex
	of map[string][]*reader // in the order in which they were opened; none is empty
	n  int
}

// reader is an open stream. ended is closed when it has made room for another one.
type reader struct {
	whose string
	ended chan struct{}
}

// open counts a stream. If there is no room, the newest stream of the caller with the most of
// them is ended, unless that has hardly more than this one; it returns nil then.
func (r *readers) open(whose string) *reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n >= r.most && !r.makeRoom(len(r.of[whose])) {
		return nil
	}
	out := &reader{whose: whose, ended: make(chan struct{})}
	if r.of == nil {
		r.of = make(map[string][]*reader)
	}
	r.of[whose] = append(r.of[whose], out)
	r.n++
	return out
}

// makeRoom ends a stream of a caller that has at least two more than own. mu is held.
func (r *readers) makeRoom(own int) bool {
	var busiest []*reader
	for _, of := range r.of {
		if len(of) > len(busiest) {
			busiest = of
		}
	}
	if len(busiest) < own+2 {
		return false
	}
	newest := busiest[len(busiest)-1]
	close(newest.ended)
	r.drop(newest)
	return true
}

// close ends the count of a stream, which may have made room for another one before.
func (r *readers) close(one *reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(one)
}

// drop is close with mu held.
func (r *readers) drop(one *reader) {
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
func callerName(r *http.Request) string {
	if id := auth.FromContext(r.Context()); id != nil && authenticated(r) {
		return "identity " + id.Name
	}
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // no address is a host like others
	return "host " + from.Addr().Unmap().String()
}
