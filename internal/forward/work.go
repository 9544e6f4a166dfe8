package forward

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// batchOf bounds the calls that are served one after the other.
	batchOf = 16
	// stuckAfter is after how long without an answer the rest of a batch is served by others.
	stuckAfter = 2 * time.Millisecond
	// slowCall is how long a quick call takes that waits for something. If most of
	// a batch are slow, as reads that find nothing in memory, the next aloneFor calls are
	// served at the same time.
	slowCall = 200 * time.Microsecond
	aloneFor = 256
)

// job is a call that is to be served, and its context.
type job struct {
	callContext
	id              uint64
	client          []byte // as the sender says
	method, request []byte
	from            *held  // nil if the message is small
	of              *batch // nil if it is served alone
}

// batch is calls that came together and are served one after the other: to hand each of them
// to a goroutine, and its answer to the sender, takes as long as to answer it. None waits for
// another one for long: if one is stuck, others serve the rest.
type batch struct {
	jobs [batchOf]*job
	n    int // not changed once it is handed to a worker
	// begun is how many of them are served or have been, and slow how many were slow.
	begun, slow atomic.Int32
}

// next returns the next call to serve; nil if there is none.
func (b *batch) next() *job {
	if i := int(b.begun.Add(1)) - 1; i < b.n {
		return b.jobs[i]
	}
	return nil
}

// gather adds a call to the batch that is handed over next, if calls like it are quick.
func (s *serving) gather(j *job) {
	quick := s.handler.Quick(j.method)
	if quick && s.alone.Load() > 0 {
		s.alone.Add(-1)
		quick = false
	}
	if !quick {
		s.hand(j)
		return
	}
	b := s.gathered
	if b == nil {
		b = new(batch)
		s.gathered = b
	}
	j.of, b.jobs[b.n] = b, j
	if b.n++; b.n == batchOf {
		s.start()
	}
}

// start has what was gathered served.
func (s *serving) start() {
	if b := s.gathered; b != nil {
		s.gathered = nil
		s.hand(b.jobs[0])
	}
}

// hand hands a call, with its batch, to a worker.
func (s *serving) hand(j *job) {
	select {
	case s.jobs <- j:
	default:
		s.workers.Go(func() { s.work(j) })
	}
}

// worker is a goroutine that serves calls.
type worker struct {
	*serving

	mu sync.Mutex
	// look is due when a batch may be stuck; nil before the first one.
	look *time.Timer
	// on is the batch that is being served, if it had several calls, and begun is how many
	// of them had begun at the last look.
	on    *batch
	begun int32
}

// work serves calls until enough other workers rest, or the stream has ended.
func (s *serving) work(j *job) {
	w := worker{serving: s}
	for open := true; open; {
		w.serve(j)
		if !s.mayRest() {
			return
		}
		j, open = <-s.jobs
		s.resting.Lock()
		s.rest--
		s.resting.Unlock()
	}
}

func (s *serving) mayRest() bool {
	s.resting.Lock()
	defer s.resting.Unlock()
	if s.rest >= resting {
		return false
	}
	s.rest++
	return true
}

// serve serves a call with its batch, whose answers are sent together.
func (w *worker) serve(j *job) {
	b := j.of
	switch {
	case b == nil:
		w.serveOne(j)
		w.out.wake()
	case b.n == 1:
		w.finish(b)
	default:
		w.watch(b)
		w.finish(b)
		w.watch(nil)
	}
}

// serveOne serves a call.
func (s *serving) serveOne(j *job) {
	a := s.handler.Serve(j, j.client, j.method, j.request)
	s.served(j.from)
	j.client, j.method, j.request, j.from = nil, nil, nil, nil // its answer may wait
	s.answer(j.id, &a)
	s.done(j)
}

// watch begins to look whether a batch is stuck, and ends that if b is nil.
func (w *worker) watch(b *batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on, w.begun = b, 1
	switch {
	case b == nil:
		w.look.Stop()
	case w.look == nil:
		w.look = time.AfterFunc(stuckAfter, w.help)
	default:
		w.look.Reset(stuckAfter)
	}
}

// help has others serve the rest of a batch that is stuck, and what was answered sent.
func (w *worker) help() {
	w.mu.Lock()
	defer w.mu.Unlock() // until then the worker counts, so that Serve waits for those that help
	b := w.on
	if b == nil {
		return
	}
	if begun := b.begun.Load(); begun != w.begun {
		w.begun = begun
		w.look.Reset(stuckAfter)
		return
	}
	for range b.n - int(w.begun) {
		w.workers.Go(func() { w.finish(b) })
	}
	w.out.wake()
}

// finish serves what is left of a batch.
func (s *serving) finish(b *batch) {
	begun := time.Now()
	for j := b.next(); j != nil; j = b.next() {
		s.serveOne(j)
		now := time.Now()
		if now.Sub(begun) >= slowCall && 2*int(b.slow.Add(1)) > b.n && b.n > 1 {
			s.alone.Store(aloneFor)
		}
		begun = now
	}
	s.out.wake()
}
