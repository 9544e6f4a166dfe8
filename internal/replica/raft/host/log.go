package host

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/logger"
)

// Dragonboat has one log a process, and its destination can be set once.
var (
	destinationOnce sync.Once
	destination     atomic.Pointer[slog.Logger]
)

// logTo sends Dragonboat's log lines to log from now on.
func logTo(log *slog.Logger) {
	destination.Store(log)
	destinationOnce.Do(func() {
		logger.SetLoggerFactory(func(part string) logger.ILogger { return &partLogger{part: part} })
	})
}

// partLogger passes Dragonboat's log lines on, one level lower: most of them concern
// Dragonboat itself.
type partLogger struct{ part string }

func (l *partLogger) say(level slog.Level, format string, args []any) {
	if log := destination.Load(); log.Enabled(context.Background(), level) {
		log.Log(context.Background(), level, fmt.Sprintf(format, args...), "part", "raft/"+l.part)
	}
}

func (l *partLogger) SetLevel(logger.LogLevel)            {}
func (l *partLogger) Debugf(string, ...any)               {}
func (l *partLogger) Infof(format string, args ...any)    { l.say(slog.LevelDebug, format, args) }
func (l *partLogger) Warningf(format string, args ...any) { l.say(slog.LevelDebug, format, args) }
func (l *partLogger) Errorf(format string, args ...any)   { l.say(slog.LevelWarn, format, args) }

// Panicf ends the process: Dragonboat calls it if to continue would lose data.
func (l *partLogger) Panicf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	destination.Load().Error(text, "part", "raft/"+l.part)
	panic(text)
}
