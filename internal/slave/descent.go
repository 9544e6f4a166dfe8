package slave

import (
	"context"
	"slices"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
)

// descent returns how a master's log is related to this node's state, which is at an index;
// fit if both are of the same history.
func (s *session) descent(resp *serverpb.GetChangesResponse, id history.Identity, at kv.Index) verdict {
	own := resp.GetClusterId() == "" || resp.GetClusterId() == id.Cluster
	theirs := resp.GetHistoryId()
	switch {
	case !own:
		return foreign
	case theirs == "":
		return behind // it has no state of its own yet
	case theirs == id.History:
		return fit
	}
	switch their, our := era.Of(theirs), era.Of(id.History); {
	case their < our:
		return former
	case s.opts.State.Succeeds(theirs):
		return behind // it has not applied the restore that the state comes from
	case their > our:
		lineage, effect := lineageOf(resp), at
		if end, _ := history.EndOf(id.History, lineage); at <= end+era.Gap { // else adopt could not go back there
			effect = s.effect(at)
		}
		if v := succession(lineage, id.History, effect); v != renewed || resp.GetMasterChangeNumber() >= at {
			return v
		}
		return rewritten
	case resp.GetReplacesHistory() && resp.GetMasterChangeNumber() >= at:
		return renewed
	case our > 0 && !resp.GetReplacesHistory():
		return rival
	default:
		return rewritten
	}
}

// succession returns how a history of a greater era, with a lineage, is related to a state
// at an index of another history.
func succession(lineage []history.Former, from string, at kv.Index) verdict {
	i := slices.IndexFunc(lineage, func(f history.Former) bool { return f.History == from })
	switch {
	case i < 0:
		return rewritten // a restored old copy was promoted, say
	case history.Leads(from, at, lineage):
		return promoted
	case slices.ContainsFunc(lineage[i:], func(f history.Former) bool { return f.End == 0 }):
		return renewed
	default:
		return surplus
	}
}

func lineageOf(resp *serverpb.GetChangesResponse) []history.Former {
	out := make([]history.Former, len(resp.GetLineage()))
	for i, f := range resp.GetLineage() {
		out[i] = history.Former{History: f.GetHistoryId(), End: f.GetEnd()}
	}
	return out
}

// effect is the index of the newest change of a state at an index: entries after it had no effect.
func (s *session) effect(at kv.Index) kv.Index {
	if s.last.index == 0 {
		return at // it is not known
	}
	return min(s.last.index, at)
}

// adopt makes the state one of the history that a promotion has begun, before the first
// change of that. A state that is above the end of its history by entries without an effect, as a
// sealed master has them, goes on behind the indexes that the promotion has skipped.
func (s *session) adopt(found finding) error {
	id, at := s.opts.State.Position()
	if err := s.opts.State.Adopt(found.id.History, found.lineage); err != nil {
		return localError{err}
	}
	s.history = found.id.History
	s.moved()
	s.log.Info("the copy goes on in the history that a promotion has begun", "master", s.source.Address,
		"history", found.id.History, "before", id.History, "index", at)
	return nil
}

// setAside has a copy with changes that the new history does not have kept beside the one
// that replaces it.
func (s *session) setAside(ctx context.Context) error {
	folder, err := s.opts.State.SetAside(ctx)
	if err != nil {
		return localError{err}
	}
	id, at := s.opts.State.Position()
	what := "the copy has changes that the promotion did not keep; it is set aside when a new one is whole"
	if folder == "" {
		what = "the copy has changes that the promotion did not keep; without a disk they are lost when a new one is whole"
	}
	s.reportAs("aside"+id.History, what, nil, "copy", name(id, at), "folder", folder)
	return nil
}
