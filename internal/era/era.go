// Package era says how promotions number histories and the changes in them. The rules are in
// internal/standby/DESIGN.md.
package era

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/dkvdb/dkv/internal/kv"
)

// Gap is by how much a promotion moves the index: the first entry after it has the index
// N + Gap + 1, where N is the last one of the history before. So no index means two things.
const Gap = 1 << 40

// Distance returns how many entries there are after one index up to another, without the
// indexes that promotions in between have skipped.
func Distance(from, to kv.Index) uint64 {
	if to <= from {
		return 0
	}
	return (to - from) % Gap
}

// Of returns the era of a history id: the number of promotions that led to it. Histories
// from before the first promotion have ids without an era.
func Of(history string) uint64 {
	number, id, found := strings.Cut(history, "-")
	if !found || id == "" {
		return 0
	}
	era, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return era
}

// History returns the id of a history of an era.
func History(era uint64, id string) string {
	if era == 0 {
		return id
	}
	return fmt.Sprintf("%d-%s", era, id)
}

// Restored returns the id of the history that a restore begins in the place of another one. It
// is of the same era: what is of a lesser one counts as replaced by a promotion.
func Restored(ctx context.Context, history string) string {
	id, whole := ctx.Value(wholeKey{}).(string)
	if !whole {
		id = kv.NewID()
	}
	return History(Of(history), id)
}

type wholeKey struct{}

// wholeMark ends the ids of restores of whole databases.
const wholeMark = ".whole"

// RestoreWhole returns a context for the restores of all vBuckets of a database, and the id which
// their histories have in common: by it a copy of only some of them is recognised.
func RestoreWhole(ctx context.Context) (_ context.Context, id string) {
	id = kv.NewID() + wholeMark
	return context.WithValue(ctx, wholeKey{}, id), id
}

// WholeRestore returns the id of the restore of a whole database that has begun a history; empty if
// none has.
func WholeRestore(history string) string {
	if !strings.HasSuffix(history, wholeMark) {
		return ""
	}
	return history[strings.LastIndexByte(history, '-')+1:]
}
