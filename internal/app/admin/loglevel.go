package admin

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/telemetry"
)

// logLevels is the answer to a change of the log's levels: those that are in use.
type logLevels struct {
	Level      string            `json:"level"`
	Components map[string]string `json:"components,omitempty"`
}

// logLevel changes the level of the log, or of a component's lines, until the node is
// started again or SIGHUP reads the configured one.
func (a *Admin) logLevel(_ context.Context, _ *role.Services, body json.RawMessage) (any, error) {
	const shape = `the body must be {"level": "debug", "component": "replica/raft"}: a level is debug, info, warn or error; without a component it is that of all lines, and without a level the component loses its own`
	var request struct {
		Level     string `json:"level"`
		Component string `json:"component"`
	}
	if err := json.Unmarshal(body, &request); err != nil || request.Level == "" && request.Component == "" {
		return nil, badBody(shape)
	}
	levels := telemetry.LevelsOf(a.Node.Log)
	if levels == nil {
		return nil, kv.Errorf(kv.Unimplemented, "the level of this log cannot be changed")
	}
	var level *slog.Level
	if request.Level != "" {
		level = new(slog.Level)
		if err := level.UnmarshalText([]byte(request.Level)); err != nil {
			return nil, badBody(shape)
		}
	}
	if request.Component == "" {
		levels.Set(*level)
	} else if err := levels.SetComponent(request.Component, level); err != nil {
		return nil, badBody(err.Error())
	}
	a.Node.Log.Info("the log's level was changed", "level", request.Level, "component", request.Component)
	all, of := levels.Current()
	out := logLevels{Level: all.String(), Components: make(map[string]string)}
	for name, l := range of {
		out.Components[name] = l.String()
	}
	return out, nil
}
