package badger

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	bdg "github.com/dgraph-io/badger/v4"
)

// logger lets Badger speak through slog.
type logger struct {
	log *slog.Logger
	// unflushed gets why a memory table could not be written to disk, unless no one has taken the
	// last such error yet. Nothing but the log says it.
	unflushed chan error
}

var _ bdg.Logger = logger{}

func (l logger) Errorf(format string, args ...any) {
	l.say(slog.LevelError, format, args)
	if !strings.HasPrefix(format, "error flushing memtable to disk") || len(args) == 0 {
		return
	}
	if err, is := args[0].(error); is {
		select {
		case l.unflushed <- err:
		default:
		}
	}
}

func (l logger) Warningf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }

// Infof logs at debug level: it reports every table and compaction.
func (l logger) Infof(format string, args ...any)  { l.say(slog.LevelDebug, format, args) }
func (l logger) Debugf(format string, args ...any) { l.say(slog.LevelDebug, format, args) }

func (l logger) say(level slog.Level, format string, args []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.Log(context.Background(), level, "badger: "+text)
}
