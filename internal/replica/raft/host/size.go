package host

import (
	"log/slog"

	"github.com/lni/dragonboat/v4/config"

	"github.com/dkvdb/dkv/internal/replica/raft/transport"
)

// Size is how much of the machine a Host may use. A zero field is unknown.
type Size struct {
	// Cores is how many threads of the process run at once, Memory how many bytes it may
	// use.
	Cores  int
	Memory uint64
	// VBuckets is how many replicas the host will have.
	VBuckets int
}

// LargestEntry bounds, in bytes, a command that the members of a log can send each other. A log
// takes none above MaxInMemory either.
const LargestEntry = transport.LargestEntry

const (
	bigCores  = 8
	bigMemory = 32 << 30
	// maxWorkers is the most that Dragonboat supports.
	maxWorkers = 64
	// maxStepWorkers bounds the workers that write the log. They share its writes.
	maxStepWorkers = 16
	// unknownVBuckets is the assumed number of vBuckets if it is not known.
	unknownVBuckets = 16
)

// big reports whether the host is large enough to spend memory on the log.
func (s Size) big() bool { return s.Cores >= bigCores && s.Memory >= bigMemory }

// MaxInMemory bounds, in bytes, the entries that the slowest follower has yet to get. On a
// big host a follower may lag further before its owner has to slow down.
func (s Size) MaxInMemory() uint64 {
	if s.big() {
		return 256 << 20
	}
	return 32 << 20
}

// layout is the layout of a new log on this host. It stays as it is if the host grows.
func (s Size) layout() layout {
	return layout{Format: layoutFormat, LogShards: 1, Workers: between(s.Cores/2, 1, maxStepWorkers)}
}

// logDB is what Dragonboat compares of the log's storage.
func (s Size) logDB(l layout) config.LogDBConfig {
	c := config.GetTinyMemLogDBConfig()
	c.Shards = l.LogShards
	return c
}

// engine is how many workers Dragonboat has. All of it but ExecShards may change.
//
// A group that waits for a disk, or for a write stall of its engine, blocks its apply
// worker. So each group has a worker of its own, as far as there are enough.
func (s Size) engine(l layout) config.EngineConfig {
	vBuckets := s.VBuckets
	if vBuckets == 0 {
		vBuckets = unknownVBuckets
	}
	return config.EngineConfig{
		ExecShards:     l.Workers,
		CommitShards:   1, // it has no work
		ApplyShards:    between(vBuckets, 2, maxWorkers),
		SnapshotShards: between(s.Cores, 4, maxStepWorkers),
		CloseShards:    4,
	}
}

func between(n, least, most int) uint64 { return uint64(min(max(n, least), most)) }

// tell logs what was chosen.
func (s Size) tell(log *slog.Logger, c *config.ExpertConfig) {
	log.Info("raft log opens", "cores", s.Cores, "memory-mib", s.Memory>>20, "big-host", s.big(),
		"step-workers", c.Engine.ExecShards, "apply-workers", c.Engine.ApplyShards, "snapshot-workers", c.Engine.SnapshotShards)
}
