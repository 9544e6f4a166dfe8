package sim

import (
	"github.com/dkvdb/dkv/internal/standby"
)

// entry is an entry of a log.
type entry struct {
	// value is what a put writes, request its id.
	value, request int
	put            bool
	// set is the standing set from here on; nil for no change.
	set *set
	// seal is the promotion that seals the log, unseal the one whose seal ends.
	seal, unseal string
}

// set is a standing set.
type set struct {
	disk     string // one node at most; "" for none
	address  string
	phase    standby.Phase
	fallback bool
}

// end is a history that a promotion has ended.
type end struct {
	history string
	at      int
}

// deployment is some masters of one era. Its logs are as package lease makes them: one
// owner at a time has entries appended, others are fenced.
type deployment struct {
	era     uint64
	id      string
	history string
	lineage [vBuckets][]end
	nodes   []*node
	logs    [vBuckets]*log
	// claimed reports whether the record's lease has fenced the masters before, not a seal.
	claimed bool
	// answered reports whether a client was answered.
	answered bool
}

type log struct {
	entries []entry
	// states are those after each of the first entries.
	states []state
	owner  *node
	epoch  int
	// began is the index of the owner's BEGIN.
	began int
}

// state is what a prefix of a log amounts to.
type state struct {
	value  int
	newest int // the index of the newest change
	set    set
	sealed string
	closed int // the index of the seal
	listed int // the index of the entry that has made the set
}

func (l *log) at(n int) state {
	if n == 0 {
		return state{}
	}
	for i := len(l.states); i < n; i++ {
		var s state
		if i > 0 {
			s = l.states[i-1]
		}
		l.states = append(l.states, s.after(l.entries[i], i+1))
	}
	return l.states[n-1]
}

// after returns the state after one more entry.
func (s state) after(e entry, index int) state {
	switch {
	case e.put:
		s.value, s.newest = e.value, index
	case e.set != nil:
		s.set, s.listed = *e.set, index
	case e.seal != "" && s.sealed == "":
		s.sealed, s.closed = e.seal, index
	case e.unseal != "" && e.unseal == s.sealed:
		s.sealed = ""
	}
	return s
}

func (l *log) state() state { return l.at(len(l.entries)) }

// closed reports whether a log is sealed for its owner.
func (l *log) closed(w *world) bool {
	s := l.state()
	return s.sealed != "" && !(w.rules.has(beginBehindSeal) && l.began > s.closed)
}
