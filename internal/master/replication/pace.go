package replication

import (
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

const (
	// streamPace is the least time between two reads of the log. Under load it lets changes
	// gather; it is also the longest that a follower waits for a change because of it.
	streamPace = 2 * time.Millisecond
	// readCost is about the time of a processor that a read at the log's end takes with what wakes
	// the reader, and readShare the part of the processors that such reads may take: each reader
	// reads every change, whatever it waits for, so that a thousand would take them all at a
	// hundred writes a second.
	readCost, readShare = 25 * time.Microsecond, 16
)

// readers are the streams that read the same changes. What they may take of the processors is shared
// out among hosts, that of a host among its connections, and that of a connection among
// its streams: those who have many read seldom, and hold no one else back.
type readers struct {
	every time.Duration // the least time between two reads of any of them

	mu    sync.Mutex
	hosts map[netip.Addr]map[uint64]int // streams by connection; no map is empty
}

func newReaders(processors int) *readers {
	return &readers{every: readShare * readCost / time.Duration(processors), hosts: make(map[netip.Addr]map[uint64]int)}
}

// enter counts a stream, which is one of them until it calls leave.
func (r *readers) enter(of kv.Client) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	conns := r.hosts[of.Host]
	if conns == nil {
		conns = make(map[uint64]int)
		r.hosts[of.Host] = conns
	}
	conns[of.Conn]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if conns[of.Conn]--; conns[of.Conn] > 0 {
			return
		}
		if delete(conns, of.Conn); len(conns) == 0 {
			delete(r.hosts, of.Host)
		}
	}
}

// pace is the least time between two reads of one stream. It is never longer than a heartbeat, by
// which readers know that the stream lasts: what all of them read by then takes little.
func (r *readers) pace(of kv.Client) time.Duration {
	if r == nil {
		return streamPace
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	conns := r.hosts[of.Host]
	return min(max(streamPace, time.Duration(len(r.hosts)*len(conns)*conns[of.Conn])*r.every), streamHeartbeat)
}

// reading are the readers of a node: its watches, and the followers of each vBucket. A slave follows
// each of them by a stream of its own.
type reading struct {
	watches   *readers
	followers map[string]*readers
}

func newReading(vBuckets []string) reading {
	processors := runtime.GOMAXPROCS(0)
	out := reading{watches: newReaders(processors), followers: make(map[string]*readers)}
	for _, v := range vBuckets {
		out.followers[v] = newReaders(processors)
	}
	return out
}
