package master

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
)

// walk is an open iteration: one source for each vBucket on this node, and one for each other
// node, which merges its own vBuckets.
type walk struct {
	sources []source
	info    kv.ReadInfo
}

// open pins the states that the request reads, all of them before anything is sent, so that
// a change of owners meanwhile costs only another attempt.
func (s *KV) open(ctx context.Context, r *serverpb.IterateRequest, opts kv.ReadOptions, vBuckets []route.VBucket) (w *walk, err error) {
	err = readLegs(ctx, s.router, vBuckets, iterateCall, opts, func(opening context.Context, legs []route.Leg) (done bool, err error) {
		w = &walk{}
		if done, err = w.addLegs(ctx, opening, s.router, r, opts, legs); err != nil {
			w.Close()
		}
		return done, err
	})
	if err != nil {
		return nil, err
	}
	if len(vBuckets) > 1 {
		w.info.Index = 0
	}
	return w, nil
}

// addLegs opens the sources of all legs. It awaits the first messages of other nodes last, so
// that these nodes work at the same time.
func (w *walk) addLegs(ctx, opening context.Context, router *route.Router, r *serverpb.IterateRequest, opts kv.ReadOptions, legs []route.Leg) (done bool, err error) {
	req := r
	if len(legs) > 1 {
		req = batchedRequest(r)
	}
	for _, l := range legs {
		if l.Owner.Self {
			if err := w.addLocal(opening, r, opts, l.VBuckets); err != nil {
				return route.Local(err)
			}
			continue
		}
		stream, err := router.Open(ctx, opening, l, iterateCall, req)
		if err != nil {
			return iterateCall.Remote(err)
		}
		w.sources = append(w.sources, &remotePairs{stream: stream})
	}
	for _, s := range w.sources {
		if s, ok := s.(*remotePairs); ok {
			if err := s.begin(); err != nil {
				return iterateCall.Remote(err)
			}
			w.saw(kv.ReadInfo{Index: s.msg.GetIndex(), Age: millis(s.msg.GetAge())})
		}
	}
	return true, nil
}

// saw records what a source was read at: the greatest age of all sources, and the index, which
// means something only if there is a single source.
func (w *walk) saw(info kv.ReadInfo) {
	w.info.Index = info.Index
	w.info.Age = max(w.info.Age, info.Age)
}

func (w *walk) addLocal(ctx context.Context, r *serverpb.IterateRequest, opts kv.ReadOptions, vBuckets []route.VBucket) error {
	for _, v := range vBuckets {
		view, info, err := v.View(ctx, opts)
		if err != nil {
			return err
		}
		w.sources = append(w.sources, &localPairs{view: view, request: r})
		w.saw(info)
	}
	return nil
}

// remote returns the only source if that is another node's, and nil otherwise.
func (w *walk) remote() *remotePairs {
	if len(w.sources) != 1 {
		return nil
	}
	s, _ := w.sources[0].(*remotePairs)
	return s
}

// local reports whether all sources are of this node.
func (w *walk) local() bool {
	for _, s := range w.sources {
		if _, is := s.(*localPairs); !is {
			return false
		}
	}
	return true
}

// iterator walks the pairs of all sources.
func (w *walk) iterator(reverse bool) iterator {
	if len(w.sources) == 1 {
		return w.sources[0]
	}
	return newMerge(w.sources, reverse)
}

// held is how many bytes the sources on this node hold of the pairs that they are at. A batch is
// sent when the next pair does not fit into it, which may be the largest that there is.
func (w *walk) held() (n int64) {
	for _, s := range w.sources {
		if l, is := s.(*localPairs); is {
			n += l.held
		}
	}
	return n
}

// Close releases all sources.
func (w *walk) Close() {
	for _, s := range w.sources {
		s.Close()
	}
}

// localPairs reads a vBucket on this node. Nothing is read, or held but the state, before
// the first Next.
type localPairs struct {
	view    replica.View
	request *serverpb.IterateRequest
	it      *fsm.Iterator
	// held is what the present pair takes, in storage and as a copy.
	held int64
}

func (l *localPairs) Next() bool {
	if l.it == nil {
		l.it = l.view.Iterate(iterateRange(l.request))
	}
	l.held = 0
	if !l.it.Next() {
		return false
	}
	const copies = 2
	p := l.it.Pair()
	l.held = copies * int64(len(p.Key)+len(p.Value))
	return true
}

func (l *localPairs) Pair() kv.Pair { return l.it.Pair() }

func (l *localPairs) Err() error {
	if l.it == nil {
		return nil
	}
	return replica.ReadError(l.it.Err())
}

func (l *localPairs) Close() {
	if l.it != nil {
		l.it.Close()
	}
	l.view.Close()
}

// batchedRequest is the request that one of several nodes gets for r.
func batchedRequest(r *serverpb.IterateRequest) *serverpb.IterateRequest {
	return &serverpb.IterateRequest{
		KeyPrefix:       r.GetKeyPrefix(),
		StartKey:        r.GetStartKey(),
		ReadConsistency: r.GetReadConsistency(),
		MaxAge:          r.GetMaxAge(),
		Limit:           r.GetLimit(),
		Reverse:         r.GetReverse(),
		KeysOnly:        r.GetKeysOnly(),
		Batched:         true,
	}
}

// responses are those of a route.Stream.
type responses interface {
	Recv(m any) error
	Opened() error
	Close()
}

// remotePairs reads the vBuckets of another node. It holds one message at a time: the rest
// waits at that node.
type remotePairs struct {
	stream responses
	msg    serverpb.IterateResponse
	at     int // of the present pair in msg
	err    error
	ended  bool
}

// begin awaits the first message, after which the state is pinned at the other node.
func (s *remotePairs) begin() error {
	s.recv()
	s.at = -1
	if s.err == nil {
		s.err = s.stream.Opened()
	}
	return s.err
}

func (s *remotePairs) recv() {
	s.at = 0
	switch err := s.stream.Recv(&s.msg); {
	case errors.Is(err, io.EOF):
		s.ended = true
		s.msg.Reset()
	case err != nil:
		s.err = err
		s.msg.Reset()
	}
}

func (s *remotePairs) Next() bool {
	for s.at++; s.err == nil && !s.ended; s.recv() {
		if s.at < len(s.msg.GetPairs()) {
			return true
		}
	}
	return false
}

func (s *remotePairs) Pair() kv.Pair {
	p := s.msg.GetPairs()[s.at]
	return kv.Pair{Key: p.GetKey(), Value: p.GetValue(), ExpireTS: p.GetExpireTS()}
}

func (s *remotePairs) Err() error {
	if s.err == nil {
		return nil
	}
	return iterateCall.Explain(s.err)
}

func (s *remotePairs) Close() { s.stream.Close() }

// relay passes the messages to the client as they arrive. While the client reads none, it reads
// none from the other node.
func (s *remotePairs) relay(to grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	for ; s.err == nil && !s.ended; s.recv() {
		if err := to.Send(&s.msg); err != nil {
			return err
		}
	}
	return s.Err()
}
