package admin

import (
	"context"
	"encoding/json"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/ops"
)

// logLevels is the answer to a change of the log's levels: those that are in use.
type logLevels struct {
	Level      string            `json:"level"`
	Components map[string]string `json:"components,omitempty"`
}

// logLevel changes the level of the log, or of a component's lines; see role.SetLogLevel.
func (a *Admin) logLevel(_ context.Context, _ *role.Services, body json.RawMessage) (any, error) {
	const shape = `the body must be {"level": "debug", "component": "replica/raft"}: a level is debug, info, warn or error; without a component it is that of all lines, and without a level the component loses its own`
	var request struct {
		Level     string `json:"level"`
		Component string `json:"component"`
	}
	if err := ops.Decode(body, &request); err != nil || request.Level == "" && request.Component == "" {
		return nil, badBody(shape)
	}
	levels, err := role.SetLogLevel(a.Node.Log, &serverpb.SetLogLevelRequest{Level: request.Level, Component: request.Component})
	if kv.KindOf(err) == kv.Invalid {
		return nil, badBody(err.Error())
	}
	if err != nil {
		return nil, err
	}
	return logLevels{Level: levels.GetLevel(), Components: levels.GetComponents()}, nil
}
