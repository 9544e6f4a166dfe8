package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Components are the parts of the program whose lines can have a level of their own: the
// packages directly below internal. The packages below one of them, such as replica/raft,
// are components as well.
var Components = []string{"access", "app", "audit", "auth", "backup", "certs", "clock", "cluster", "discovery", "forward", "fsm",
	"master", "ops", "peer", "replica", "route", "server", "slave", "standby", "storage"}

// maxComponents bounds how many components have a level of their own, and longestName the name
// of one: parts of components have any name, and all are kept.
const maxComponents, longestName = 64, 128

// Levels are the least severe levels that are logged: one for all lines, and others for the
// lines of components. They can be changed while loggers are in use.
type Levels struct {
	all slog.LevelVar
	mu  sync.Mutex // held while of is replaced
	// of has the components with a level of their own; nil for none.
	of atomic.Pointer[map[string]slog.Level]
}

// Level implements slog.Leveler: the least severe of all levels.
func (l *Levels) Level() slog.Level {
	least := l.all.Level()
	if of := l.of.Load(); of != nil {
		for _, level := range *of {
			least = min(least, level)
		}
	}
	return least
}

// Reset sets the level of all lines, and takes their own from components.
func (l *Levels) Reset(level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.Set(level)
	l.of.Store(nil)
}

// Set sets the level of the lines that have none of their own.
func (l *Levels) Set(level slog.Level) { l.all.Set(level) }

// SetComponent gives the lines of a component a level of their own, or takes it away if
// level is nil.
func (l *Levels) SetComponent(name string, level *slog.Level) error {
	if top, _, _ := strings.Cut(name, "/"); !slices.Contains(Components, top) || len(name) > longestName {
		return fmt.Errorf("there is no component %.64q: a component is %s, or a part of one of them, such as replica/raft", name, strings.Join(Components, ", "))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.components()
	if _, has := next[name]; level != nil && !has && len(next) >= maxComponents {
		return fmt.Errorf("%d components have a level of their own, which is the limit: take it from one of them first, by naming it without a level", len(next))
	}
	if delete(next, name); level != nil {
		next[name] = *level
	}
	if len(next) == 0 {
		l.of.Store(nil)
	} else {
		l.of.Store(&next)
	}
	return nil
}

// Change sets the level that is named of a component's lines, or of all lines if component is
// empty. Without a level the component loses its own.
func (l *Levels) Change(level, component string) error {
	var to *slog.Level
	if level != "" {
		to = new(slog.Level)
		// slog also takes levels in between, such as error+1000, at which no line is logged any more.
		if err := to.UnmarshalText([]byte(level)); err != nil || strings.ContainsAny(level, "+-") {
			return fmt.Errorf("there is no level %.64q: a level is debug, info, warn or error", level)
		}
	}
	switch {
	case component != "":
		return l.SetComponent(component, to)
	case to == nil:
		return errors.New("name a level, a component or both")
	}
	l.Set(*to)
	return nil
}

// components is a copy of the components with a level of their own.
func (l *Levels) components() map[string]slog.Level {
	out := make(map[string]slog.Level)
	if of := l.of.Load(); of != nil {
		maps.Copy(out, *of)
	}
	return out
}

// Current returns the level of all lines and those of components.
func (l *Levels) Current() (all slog.Level, components map[string]slog.Level) {
	return l.all.Level(), l.components()
}

// logs reports whether a line of a level is logged that was made at pc.
func (l *Levels) logs(level slog.Level, pc uintptr) bool {
	of := l.of.Load()
	if of == nil {
		return true // Enabled has judged
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	for name := packageOf(frame.Function); name != ""; {
		if own, has := (*of)[name]; has {
			return level >= own
		}
		name = name[:max(strings.LastIndexByte(name, '/'), 0)]
	}
	return level >= l.all.Level()
}

// packageOf returns the path of a function's package below internal, "" if it has none.
func packageOf(function string) string {
	_, path, found := strings.Cut(function, "/internal/")
	if !found {
		return ""
	}
	at := strings.LastIndexByte(path, '/') + 1
	dot := strings.IndexByte(path[at:], '.')
	return path[:at+max(dot, 0)]
}

// byComponent is a handler that drops the lines which the levels of components exclude.
type byComponent struct {
	slog.Handler
	levels *Levels
}

// Handle implements slog.Handler.
func (h byComponent) Handle(ctx context.Context, r slog.Record) error {
	if !h.levels.logs(r.Level, r.PC) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h byComponent) WithAttrs(attrs []slog.Attr) slog.Handler {
	return byComponent{h.Handler.WithAttrs(attrs), h.levels}
}

// WithGroup implements slog.Handler.
func (h byComponent) WithGroup(name string) slog.Handler {
	return byComponent{h.Handler.WithGroup(name), h.levels}
}

// LevelsOf returns the levels of a logger that NewLogger has made with some; nil for any other.
func LevelsOf(log *slog.Logger) *Levels {
	if h, is := log.Handler().(byComponent); is {
		return h.levels
	}
	return nil
}
