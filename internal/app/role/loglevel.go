package role

import (
	"log/slog"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/telemetry"
)

// SetLogLevel changes the level of a log, or of a component's lines, until the node is started
// again or SIGHUP reads the configured one, and returns the levels in use. An empty request
// changes nothing.
func SetLogLevel(log *slog.Logger, r *serverpb.SetLogLevelRequest) (*serverpb.LogLevels, error) {
	levels := telemetry.LevelsOf(log)
	if levels == nil {
		return nil, kv.Errorf(kv.Unimplemented, "the level of this log cannot be changed")
	}
	if r.GetLevel() != "" || r.GetComponent() != "" {
		if err := levels.Change(r.GetLevel(), r.GetComponent()); err != nil {
			return nil, kv.Errorf(kv.Invalid, "%w", err)
		}
		log.Info("the log's level was changed", "level", r.GetLevel(), "component", r.GetComponent())
	}
	all, of := levels.Current()
	out := &serverpb.LogLevels{Level: all.String(), Components: make(map[string]string)}
	for name, level := range of {
		out.Components[name] = level.String()
	}
	return out, nil
}
