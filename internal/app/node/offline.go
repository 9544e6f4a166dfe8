package node

import (
	"log/slog"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/replica/state"
)

// Offline returns a node without addresses, for work in the data folder before any role.
func Offline(cfg *config.Config, log *slog.Logger) *Node {
	return &Node{Config: cfg, Log: log, Layout: LayoutOf(cfg), Reads: state.NewReads()}
}
