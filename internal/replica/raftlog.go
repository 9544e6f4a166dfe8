package replica

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
	raftLogOnce sync.Once
	raftLog     atomic.Pointer[slog.Logger]
)

// logTo sends what Dragonboat says to log from now on.
func logTo(log *slog.Logger) {
	raftLog.Store(log)
	raftLogOnce.Do(func() {
		logger.SetLoggerFactory(func(part string) logger.ILogger { return &raftLogger{part: part} })
	})
}

// raftLogger passes Dragonboat's log on, one level lower: what it thinks worth
// knowing is about itself.
type raftLogger struct{ part string }

func (l *raftLogger) say(level slog.Level, format string, args []any) {
	if log := raftLog.Load(); log.Enabled(context.Background(), level) {
		log.Log(context.Background(), level, fmt.Sprintf(format, args...), "part", "raft/"+l.part)
	}
}

func (l *raftLogger) SetLevel(logger.LogLevel)            {}
func (l *raftLogger) Debugf(string, ...any)               {}
func (l *raftLogger) Infof(format string, args ...any)    { l.say(slog.LevelDebug, format, args) }
func (l *raftLogger) Warningf(format string, args ...any) { l.say(slog.LevelDebug, format, args) }
func (l *raftLogger) Errorf(format string, args ...any)   { l.say(slog.LevelWarn, format, args) }

// Panicf ends the process: Dragonboat calls it where going on would lose data.
func (l *raftLogger) Panicf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	raftLog.Load().Error(text, "part", "raft/"+l.part)
	panic(text)
}
