// Package telemetry sets up the log and the metrics registry of a process. Both are
// created here and passed to the components; nothing is global.
package telemetry

import (
	"bytes"
	"io"
	"log/slog"
)

// LogOptions are the options of NewLogger.
type LogOptions struct {
	// Writer receives one line for each record, in one call of Write. What is behind a *Patient may hang.
	Writer io.Writer
	// JSON writes a JSON object for each line, instead of text.
	JSON bool
	// Level is the least severe level that is logged; nil means Info. A
	// *slog.LevelVar can be changed while the logger is in use, and *Levels for the lines
	// of a component besides.
	Level slog.Leveler
	// Node is the node's name, an attribute of every line; "" leaves it out.
	Node string
	// Recent keeps the last events as well; nil keeps none.
	Recent *Recent
}

// readable writes durations with their unit, "12.3ms", in JSON as well as in text. By
// default JSON has them as a number of nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// NewLogger returns a logger; it is safe for concurrent use.
func NewLogger(o LogOptions) *slog.Logger {
	if to, is := o.Writer.(*Patient); is {
		to.says(o.missing)
	}
	handler := o.handler(o.Writer)
	if o.Recent != nil {
		handler = o.Recent.Handler(handler)
	}
	if levels, is := o.Level.(*Levels); is {
		handler = byComponent{handler, levels}
	}
	logger := slog.New(handler)
	if o.Node != "" {
		logger = logger.With("node", o.Node)
	}
	return logger
}

// handler writes the lines of the options to a writer.
func (o *LogOptions) handler(to io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: o.Level}
	if !o.JSON {
		return slog.NewTextHandler(to, options)
	}
	options.ReplaceAttr = readable
	return slog.NewJSONHandler(to, options)
}

// missing is a line that says how many lines the log lacks.
func (o *LogOptions) missing(lines int) []byte {
	var out bytes.Buffer
	slog.New(o.handler(&out)).Error("lines of the log were dropped, since what reads them did not", "node", o.Node, "dropped", lines)
	return out.Bytes()
}
