package telemetry

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Recent keeps the last events of a log in memory, for people who look at a node without
// its files. It is safe for concurrent use.
type Recent struct {
	mu   sync.Mutex
	kept []Event
	next uint64 // the ID of the next event
	most int
}

// Event is a line of the log.
type Event struct {
	// ID grows by one with each event since the start of the process.
	ID      uint64    `json:"id"`
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Message string    `json:"message"`
	// Attrs are names and values, in order.
	Attrs [][2]string `json:"attrs,omitempty"`

	level slog.Level
}

// maxText bounds what is kept of a value: a line may be as long as a request.
const maxText = 1024

// NewRecent returns a Recent that keeps a number of events.
func NewRecent(most int) *Recent { return &Recent{most: most} }

// Wanted says which events Events returns.
type Wanted struct {
	// Level is the least severe level; VBucket is that of the attribute vbucket, "" for all.
	Level   slog.Level
	VBucket string
	// Message is the message of the events; "" for all.
	Message string
	// Limit is how many there are at most.
	Limit int
}

// Events returns the last events that are wanted, the newest first.
func (r *Recent) Events(w Wanted) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []Event{}
	for i := range r.kept {
		// The oldest one is where the next one will be.
		e := &r.kept[(int(r.next)-1-i+2*len(r.kept))%len(r.kept)]
		if len(out) == w.Limit {
			break
		}
		if e.level >= w.Level && (w.Message == "" || e.Message == w.Message) && (w.VBucket == "" || slices.Contains(e.Attrs, [2]string{"vbucket", w.VBucket})) {
			out = append(out, *e)
		}
	}
	return out
}

func (r *Recent) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.ID = r.next
	if len(r.kept) < r.most {
		r.kept = append(r.kept, e)
	} else {
		r.kept[r.next%uint64(r.most)] = e
	}
	r.next++
}

// RecentOf returns what keeps the events of a logger; nil if nothing does.
func RecentOf(log *slog.Logger) *Recent {
	handler := log.Handler()
	if by, is := handler.(byComponent); is {
		handler = by.Handler
	}
	if k, is := handler.(*keeping); is {
		return k.recent
	}
	return nil
}

// Unkept returns a logger that writes the same lines and has none of them kept.
func Unkept(log *slog.Logger) *slog.Logger {
	by, is := log.Handler().(byComponent)
	handler := log.Handler()
	if is {
		handler = by.Handler
	}
	k, kept := handler.(*keeping)
	switch {
	case !kept:
		return log
	case is:
		return slog.New(byComponent{k.next, by.levels})
	default:
		return slog.New(k.next)
	}
}

// Keep keeps an event that goes elsewhere than to the log.
func (r *Recent) Keep(level slog.Level, message string, attrs ...slog.Attr) {
	e := Event{Time: time.Now().UTC(), Level: level.String(), level: level, Message: short(message)}
	for _, a := range attrs {
		e.Attrs = flat(e.Attrs, "", a)
	}
	r.add(e)
}

// Handler returns a handler that keeps what another one handles.
func (r *Recent) Handler(next slog.Handler) slog.Handler { return &keeping{recent: r, next: next} }

// keeping is a slog.Handler that keeps events. It is as verbose as the one below it.
type keeping struct {
	recent *Recent
	next   slog.Handler
	attrs  [][2]string
	prefix string
}

func (k *keeping) Enabled(ctx context.Context, l slog.Level) bool { return k.next.Enabled(ctx, l) }

func (k *keeping) Handle(ctx context.Context, record slog.Record) error {
	e := Event{Time: record.Time.UTC(), Level: record.Level.String(), level: record.Level, Message: short(record.Message), Attrs: slices.Clip(k.attrs)}
	record.Attrs(func(a slog.Attr) bool {
		e.Attrs = flat(e.Attrs, k.prefix, a)
		return true
	})
	k.recent.add(e)
	return k.next.Handle(ctx, record)
}

func (k *keeping) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *k
	out.next, out.attrs = k.next.WithAttrs(attrs), slices.Clip(k.attrs)
	for _, a := range attrs {
		out.attrs = flat(out.attrs, k.prefix, a)
	}
	return &out
}

func (k *keeping) WithGroup(name string) slog.Handler {
	out := *k
	out.next = k.next.WithGroup(name)
	if name != "" {
		out.prefix = k.prefix + name + "."
	}
	return &out
}

// flat appends an attribute, or those of a group, as text.
func flat(to [][2]string, prefix string, a slog.Attr) [][2]string {
	value := a.Value.Resolve()
	if value.Kind() != slog.KindGroup {
		return append(to, [2]string{prefix + a.Key, short(value.String())})
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, member := range value.Group() {
		to = flat(to, prefix, member)
	}
	return to
}

func short(text string) string {
	if len(text) > maxText {
		return text[:maxText] + "…"
	}
	return text
}
