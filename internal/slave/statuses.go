package slave

import (
	"context"
	"maps"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/peer"
)

// Statuses are what masters answer about themselves, for all pullers of a node together. An answer
// names all vBuckets, so that if each of them asked for itself, a thousand of them would have a
// master send a million a second. The zero value is ready; its methods are safe for concurrent use.
type Statuses struct {
	mu        sync.Mutex
	byAddress map[string]*question
}

// question is one to a master. All but done are set before that is closed, and begun from the start.
type question struct {
	begun time.Time
	done  chan struct{}
	resp  *serverpb.NodeStatusResponse
	err   error
	// abandoned means that err is that of the asker, who waits no longer.
	abandoned bool
}

// statusesKept is how long the answer of a master is kept that no one asks any more.
const statusesKept = time.Minute

// of returns what a master has answered to a question that was asked since a time, or is asked now.
// Callers do not change it.
func (s *Statuses) of(ctx context.Context, p *peer.Peer, since time.Time) (*serverpb.NodeStatusResponse, error) {
	for {
		q, ask := s.question(p.Addr(), since)
		if ask {
			q.resp = new(serverpb.NodeStatusResponse)
			q.err = p.Invoke(ctx, serverpb.DKVNode_GetNodeStatus_FullMethodName, new(emptypb.Empty), q.resp)
			q.abandoned = q.err != nil && ctx.Err() != nil
			close(q.done)
			return q.resp, q.err
		}
		select {
		case <-q.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if !q.begun.Before(since) && !q.abandoned {
			return q.resp, q.err
		}
	}
}

// question returns the question to wait for, which the caller asks if it is a new one. One that is
// under way since too long ago is waited for as well, so that the next one is shared.
func (s *Statuses) question(address string, since time.Time) (q *question, ask bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q = s.byAddress[address]; q != nil && (!q.answered() || !q.begun.Before(since) && !q.abandoned) {
		return q, false
	}
	now := time.Now()
	maps.DeleteFunc(s.byAddress, func(_ string, q *question) bool { return q.answered() && now.Sub(q.begun) > statusesKept })
	if s.byAddress == nil {
		s.byAddress = make(map[string]*question)
	}
	q = &question{begun: now, done: make(chan struct{})}
	s.byAddress[address] = q
	return q, true
}

func (q *question) answered() bool {
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}
