package rocksdb

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/linxGnu/grocksdb"

	"github.com/dkvdb/dkv/internal/storage"
)

// neededLogs is RocksDB's name for the number of the first log file that is not obsolete.
const neededLogs = "rocksdb.min-log-number-to-keep"

// checkRecovery returns storage.ErrCorrupt if replaying the write-ahead log
// would lose writes that were durable, or skip a gap. It changes nothing
// in the folder.
func checkRecovery(dir string, logger *slog.Logger) error {
	state, err := readLogs(dir)
	if err != nil {
		return err
	}
	if state.damage == "" && len(state.gaps) == 0 && state.lacking == (fileGap{}) {
		return nil
	}
	var recovered, needed uint64
	var known bool
	err = inspect(dir, familyNames[:], func(db *grocksdb.DB) {
		recovered = db.GetLatestSequenceNumber()
		needed, known = db.GetIntProperty(neededLogs)
	})
	if err != nil {
		return err
	}
	// An obsolete file is not replayed, and may still be there after a crash: a gap in it is where an
	// earlier recovery ended, and other mutations have these numbers by now.
	skipped := slices.IndexFunc(state.gaps, func(g gap) bool { return recovered >= g.behind && (!known || g.in >= needed) })
	const advice = "restore the folder from a backup or from another replica"
	switch {
	case recovered < state.durable:
		return fmt.Errorf("%w: the write-ahead log is damaged at %s: it can be read up to mutation %d, and at least %d were durable; %s",
			storage.ErrCorrupt, state.damage, recovered, state.durable, advice)
	case skipped >= 0:
		return fmt.Errorf("%w: the write-ahead log lacks mutations before number %d; %s",
			storage.ErrCorrupt, state.gaps[skipped].behind, advice)
	case state.lacking.behind != 0 && recovered >= state.lacking.behind && known && state.lacking.after >= needed:
		return fmt.Errorf("%w: a file of the write-ahead log is missing, or the end of one: the mutations before number %d; put it back, or %s",
			storage.ErrCorrupt, state.lacking.behind, advice)
	case state.damage == "" && len(state.gaps) == 0:
		return nil // the file that is missing was obsolete
	}
	logger.Warn("the write-ahead log ends in a torn write, as a crash leaves it; what was never durable is dropped",
		"folder", dir, "at", state.damage, "mutations", recovered)
	return nil
}
