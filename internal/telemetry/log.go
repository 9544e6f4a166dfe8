// Package telemetry sets up what a process says about itself: its log and its
// metrics registry. Both are made here and handed to the components; nothing
// is global.
package telemetry

import (
	"io"
	"log/slog"
)

// LogOptions say where the log goes and in what form.
type LogOptions struct {
	// Writer takes a line a record, each in one call of Write.
	Writer io.Writer
	// JSON writes an object a line for collectors, instead of text for people.
	JSON bool
	// Level is the least severe level that is logged. A *slog.LevelVar can be
	// changed while the logger is in use; nil is Info.
	Level slog.Leveler
	// Node is the node's name, an attribute of every line; "" leaves it out.
	Node string
}

// readable has durations written with their unit, as text has them: "12.3ms". JSON would
// have them as bare nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// NewLogger returns a logger; it is safe for concurrent use.
func NewLogger(o LogOptions) *slog.Logger {
	options := &slog.HandlerOptions{Level: o.Level}
	var handler slog.Handler
	if o.JSON {
		options.ReplaceAttr = readable
		handler = slog.NewJSONHandler(o.Writer, options)
	} else {
		handler = slog.NewTextHandler(o.Writer, options)
	}
	logger := slog.New(handler)
	if o.Node != "" {
		logger = logger.With("node", o.Node)
	}
	return logger
}
