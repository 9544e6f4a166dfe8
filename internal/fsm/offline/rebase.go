package offline

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Rebase makes the state in engine the start of a new history in the place of the given one, of
// the same cluster and era, with a new log: no old change number is valid in it, its index is at
// least the given one, and paused says whether mutations are rejected. It has no lineage
// until KeepLineage. The state keeps its remembered requests unless
// fsm.Machine.KeepRequests replaces them. ctx says only which restore it is for; see era.Restored.
func Rebase(ctx context.Context, engine storage.Engine, replaced history.Identity, index kv.Index, paused bool) error {
	st, err := layout.ReadState(engine)
	if err != nil {
		return fmt.Errorf("rebase: %w", err)
	}
	if err := storage.Clear(engine, storage.Changelog, storage.Range{}); err != nil {
		return fmt.Errorf("rebase: drop the changelog: %w", err)
	}
	st.Applied = max(st.Applied, index)
	st.Logged, st.Paused = 0, paused
	var b storage.Batch
	b.Delete(storage.Meta, layout.KeyLineage)
	layout.PutIdentity(&b, history.Identity{Cluster: replaced.Cluster, History: era.Restored(ctx, replaced.History)})
	b.Put(storage.Meta, layout.KeyFloor, changelog.Key(st.Applied+1))
	return beginLog(engine, &b, st)
}

// Continue makes the state in engine the start of a new log. It
// keeps its history, changes and requests: the log's first entry is the next change.
func Continue(engine storage.Engine) error {
	st, err := layout.ReadState(engine)
	if err != nil {
		return fmt.Errorf("continue in a new log: %w", err)
	}
	return beginLog(engine, new(storage.Batch), st)
}

// beginLog writes b and st as the base of a new log, whose terms, epochs, replica ids, format,
// timing and standbys start from the beginning, and which is not sealed.
func beginLog(engine storage.Engine, b *storage.Batch, st layout.State) error {
	if err := storage.Clear(engine, storage.Meta, storage.Prefix(layout.PrefixMember)); err != nil {
		return fmt.Errorf("drop the old log's members: %w", err)
	}
	if err := storage.Clear(engine, storage.Meta, storage.Prefix(layout.PrefixStaged)); err != nil {
		return fmt.Errorf("drop the staged pairs of a restore: %w", err)
	}
	st.Epoch, st.Sealed = command.Epoch{}, layout.Seal{}
	b.Delete(storage.Meta, layout.KeyRestoring)
	b.Delete(storage.Meta, layout.KeyFormat)
	b.Delete(storage.Meta, layout.KeyTiming)
	b.Delete(storage.Meta, layout.KeyStandbys)
	b.Put(storage.Meta, layout.KeyState, st.Append(nil))
	b.Put(storage.Meta, layout.KeyBase, changelog.Key(st.Applied))
	if err := engine.Write(b, true); err != nil {
		return fmt.Errorf("begin a new log: %w", err)
	}
	return nil
}
