package slave

import (
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// forgetful returns the best source that does not retain the changes that come next after a state;
// a zero one if none was found. certain reports that no other source may have them either. A snapshot
// can wait for that: it takes long, and leaves those that follow this copy without changes, too.
func (p *Puller) forgetful(ordered []source.Source, id history.Identity) (best source.Source, certain bool) {
	best, certain = p.judged(ordered, func(s source.Source, f finding) bool {
		// A former master that has rejoined as a slave retains nothing, and its row may still be a
		// master's: then those of the new masters are to come.
		return f.verdict == trimmed && (s.History == "" || s.History == f.id.History)
	})
	if !certain {
		best, _ = p.judged(ordered, func(_ source.Source, f finding) bool { return f.verdict == trimmed })
	}
	for _, s := range ordered {
		f, judged := p.search.findings[s.Address]
		if judged && f.verdict == behind || !judged && !s.ForeignTo(id) {
			certain = false // it may draw level, or answer, in a moment
		}
	}
	return best, certain
}
