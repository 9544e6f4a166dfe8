package everywhere

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// lacking is the error of an answer that some nodes have not applied.
func (l *Log) lacking(missing []string, index kv.Index, cause error) error {
	history := l.opts.History()
	l.mu.Lock()
	defer l.mu.Unlock()
	texts := make([]string, len(missing))
	for i, address := range missing {
		texts[i] = address + " (" + l.nodes[address].why(history, index) + ")"
	}
	return fmt.Errorf("level all needs %s: %w", strings.Join(texts, ", "), cause)
}

// why says what keeps a node from having applied an index.
func (n *node) why(history string, index kv.Index) string {
	switch {
	case n.err != nil:
		return n.err.Error()
	case n.heard.IsZero():
		return "it has not answered yet"
	case n.at.History != history:
		return "it has another history"
	default:
		return fmt.Sprintf("it has applied change %d, and this is %d", n.at.Applied, index)
	}
}

// Silent returns the nodes that have applied nothing for a time although an answer waits for
// them, so that the log has to mark them as down. A node that cannot be asked how far it is,
// since its release is older, is none of them.
func (l *Log) Silent(limit time.Duration) (out []string) {
	history := l.opts.History()
	l.mu.Lock()
	defer l.mu.Unlock()
	for address, n := range l.nodes {
		if n.waiting > 0 && n.applied(history) < n.needed && time.Since(n.since) > limit && kv.KindOf(n.err) != kv.Unimplemented {
			out = append(out, address)
		}
	}
	slices.Sort(out)
	return out
}

const (
	// lookAgain is how often a node that is marked as down is asked how far it is.
	lookAgain = time.Second
	// nearly is how many indexes a node may lag for its mark to end: answers wait for it
	// from then on.
	nearly = 4096
)

// Returned returns those nodes that need not be marked as down any longer: they answer and
// have applied the log nearly up to its end, or keep it no more.
func (l *Log) Returned(down []string, end kv.Index) (out []string) {
	history := l.opts.History()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, address := range down {
		n := l.node(address)
		switch {
		case l.roster != nil && !slices.Contains(l.roster, address):
			out = append(out, address)
		case n.err == nil && time.Since(n.heard) <= 2*lookAgain && n.applied(history)+nearly >= end && n.at.History == history:
			n.begin(time.Now()) // it may lag a little, and gets its time
			out = append(out, address)
		case time.Since(n.looked) >= lookAgain && !n.asked && !l.closed:
			n.looked = time.Now()
			l.asking.Go(func() {
				at, err := l.opts.Ask(l.ended, address, 0)
				l.answered(n, at, err)
			})
		}
	}
	return out
}
