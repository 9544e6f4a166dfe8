package ctl

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// noLevel is the level of -logLevel that takes a component's own level away.
const noLevel = "default"

// runLogLevel changes the levels of a node's log, and shows them.
func runLogLevel(ctx context.Context, s *session, args []string) error {
	level, component, err := levelOf(args)
	if err != nil {
		return err
	}
	kind := nodes.Mutates
	if level == "" && component == "" {
		kind = nodes.Reads
	}
	var levels *serverpb.LogLevels
	err = s.Call(ctx, kind, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		levels, err = admin.SetLogLevel(ctx, conn, level, component)
		return err
	})
	if err != nil {
		return err
	}
	if s.out.JSON {
		return s.out.Value(struct {
			Level      string            `json:"level"`
			Components map[string]string `json:"components,omitempty"`
		}{levels.GetLevel(), levels.GetComponents()})
	}
	rows := [][]string{{"all", levels.GetLevel()}}
	for _, name := range slices.Sorted(maps.Keys(levels.GetComponents())) {
		rows = append(rows, []string{name, levels.GetComponents()[name]})
	}
	return output.WriteColumns(s.out.W, rows)
}

// levelOf returns the level and the component of -logLevel. Which components there are is for
// the node to say, which may be of another release.
func levelOf(args []string) (level, component string, err error) {
	if len(args) == 0 {
		return "", "", nil
	}
	if level = args[0]; len(args) > 1 {
		component = args[1]
	}
	switch level {
	case "debug", "info", "warn", "error":
		return level, component, nil
	case noLevel:
		if component == "" {
			return "", "", options.Usagef("-logLevel %s: name the component that is to lose its own level", noLevel)
		}
		return "", component, nil
	}
	return "", "", options.Usagef("-logLevel: there is no level %q: it is debug, info, warn or error, or %s to take a component's own level away", level, noLevel)
}
