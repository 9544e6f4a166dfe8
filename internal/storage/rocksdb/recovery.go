package rocksdb

import (
	"fmt"
	"log/slog"

	"github.com/linxGnu/grocksdb"

	"github.com/dkvdb/dkv/internal/storage"
)

// checkRecovery returns storage.ErrCorrupt if replaying the write-ahead log
// would lose writes that were durable, or skip a gap. It changes nothing
// in the folder.
func checkRecovery(dir string, logger *slog.Logger) error {
	state, err := readLogs(dir)
	if err != nil {
		return err
	}
	if state.damage == "" && state.behindGap == 0 {
		return nil
	}
	var recovered uint64
	err = inspect(dir, familyNames[:], func(db *grocksdb.DB) { recovered = db.GetLatestSequenceNumber() })
	if err != nil {
		return err
	}
	const advice = "restore the folder from a backup or from another replica"
	switch {
	case recovered < state.durable:
		return fmt.Errorf("%w: the write-ahead log is damaged at %s: it can be read up to mutation %d, and at least %d were durable; %s",
			storage.ErrCorrupt, state.damage, recovered, state.durable, advice)
	case state.behindGap != 0 && recovered >= state.behindGap:
		return fmt.Errorf("%w: the write-ahead log lacks mutations before number %d; %s",
			storage.ErrCorrupt, state.behindGap, advice)
	}
	logger.Warn("the write-ahead log ends in a torn write, as a crash leaves it; what was never durable is dropped",
		"folder", dir, "at", state.damage, "mutations", recovered)
	return nil
}
