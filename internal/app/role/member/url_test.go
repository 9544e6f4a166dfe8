package member

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// A promotion makes no master of a slave whose engine masters cannot run on: it writes less at
// once than a log brings, and its files are no snapshot for the others.
func TestASlaveOnAnotherEngineBecomesNoMember(t *testing.T) {
	cfg := config.Default()
	cfg.Storage.Engine = config.Badger
	_, _, err := Reserve(t.Context(), &node.Node{Config: cfg, Dir: new(datadir.Dir)})
	if err == nil || !strings.Contains(err.Error(), "it runs on badger") || !strings.Contains(err.Error(), "--db-engine rocksdb") {
		t.Errorf("%v", err)
	}
}
