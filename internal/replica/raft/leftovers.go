package raft

import (
	"slices"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/replica/state"
)

// leftovers are commands whose callers have left while the log has them, about in its order.
// They keep their room as long as it has them: what comes next would wait for them. One
// goroutine gives the room of all back, since thousands of callers may leave at once.
type leftovers struct {
	mu      sync.Mutex
	waiting []leftover
	// ending reports that there is a goroutine that ends them.
	ending bool
}

// leftover is a command that the log has.
type leftover struct {
	of   *dragonboat.RequestState
	turn state.Turn
}

// applied reports whether the log is done with the command. It may be asked again only after
// a no.
func (l leftover) applied() bool {
	select {
	case <-l.of.ResultC():
		l.of.Release()
		return true
	default:
		return false
	}
}

// outlive keeps the room of a command whose caller has left, as long as the log has it.
func (r *Replica) outlive(l leftover) {
	r.left.mu.Lock()
	defer r.left.mu.Unlock()
	r.left.waiting = append(r.left.waiting, l)
	if !r.left.ending {
		r.left.ending = true
		go r.endLeftovers()
	}
}

// endLeftovers gives the room of leftovers back until there are none. Once this replica no
// longer leads nothing comes behind them, and those that wait for room have to hear that they
// should ask another node.
func (r *Replica) endLeftovers() {
	look := time.NewTicker(leaderLook)
	defer look.Stop()
	for {
		first, more := r.left.first()
		if !more {
			return
		}
		select {
		case <-first.of.ResultC():
			first.of.Release()
			r.left.endFirst()
		case <-look.C:
			leader, _ := r.leads()
			r.left.end(func(l leftover) bool { return leader != r.raft.Replica || l.applied() })
		}
	}
}

// first returns the one that is probably applied first. Only the goroutine that ends them asks;
// without any, it has to return.
func (l *leftovers) first() (leftover, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.waiting, l.ending = nil, false
		return leftover{}, false
	}
	return l.waiting[0], true
}

// endFirst gives the room of the first one back.
func (l *leftovers) endFirst() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[0].turn.End()
	l.waiting[0] = leftover{}
	l.waiting = l.waiting[1:]
}

// end gives the room of those back that are over.
func (l *leftovers) end(over func(leftover) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(w leftover) bool {
		if !over(w) {
			return false
		}
		w.turn.End()
		return true
	})
}
