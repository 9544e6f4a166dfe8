// Package task keeps what a process does that takes a while, such as a backup, and how far each
// is. A service begins a task and puts it into the context; what works under that context says
// which step it takes and counts what is done, without knowing who looks.
package task

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Kinds of tasks.
const (
	Backup   = "backup"
	Restore  = "restore"
	Verify   = "verify"
	Join     = "join"
	Removal  = "removal"
	Leaders  = "leaders"
	Snapshot = "snapshot"
)

// Units of what steps count.
const (
	Bytes    = "B"
	Keys     = "keys"
	VBuckets = "vBuckets"
)

// List is the tasks that run. The zero value is ready, and a nil List keeps none.
type List struct {
	mu      sync.Mutex
	running []*task
}

// task is one of them.
type task struct {
	kind, subject string
	begun         time.Time

	mu   sync.Mutex
	step step
	// part and parts are the vBucket that it is at, counted from 1, and of how many.
	part, parts int
	done        atomic.Uint64
}

// step is what a task does now.
type step struct {
	text, unit string
	total      uint64
	begun      time.Time
}

// State is how far a task is.
type State struct {
	// Kind is one of those above; Subject is what it is about, such as the backup's path.
	Kind, Subject string
	// Step says what is done now, as the end of a sentence that begins with Kind.
	Step string
	// Part is the vBucket that it is at, counted from 1, of Parts; both are 0 if it takes them
	// together or there is one.
	Part, Parts int
	// Done of Total are done of this step, both in Unit. Total is an estimate, and 0 if it is
	// not known.
	Done, Total uint64
	Unit        string
	// Elapsed is the time since the task began, and InStep since its step did.
	Elapsed, InStep time.Duration
}

type key struct{}

// maxSubject is how many bytes of a subject are kept: callers choose it.
const maxSubject = 256

// Begin adds a task to the list until end is called. What is done under the context that it
// returns may report to it.
func (l *List) Begin(ctx context.Context, kind, subject string) (_ context.Context, end func()) {
	if l == nil {
		return ctx, func() {}
	}
	if len(subject) > maxSubject {
		subject = strings.ToValidUTF8(subject[:maxSubject], "") + "..."
	}
	now := time.Now()
	t := &task{kind: kind, subject: subject, begun: now, step: step{begun: now}}
	l.mu.Lock()
	l.running = append(l.running, t)
	l.mu.Unlock()
	return context.WithValue(ctx, key{}, t), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.running = slices.DeleteFunc(l.running, func(other *task) bool { return other == t })
	}
}

// Running returns the tasks, the oldest first.
func (l *List) Running() []State {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	running := slices.Clone(l.running)
	l.mu.Unlock()
	now := time.Now()
	var out []State
	for _, t := range running {
		out = append(out, t.state(now))
	}
	return out
}

func (t *task) state(now time.Time) State {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := State{Kind: t.kind, Subject: t.subject, Step: t.step.text, Part: t.part, Parts: t.parts,
		Done: t.done.Load(), Total: t.step.total, Unit: t.step.unit, Elapsed: now.Sub(t.begun), InStep: now.Sub(t.step.begun)}
	if s.Total > 0 {
		s.Total = max(s.Total, s.Done)
	}
	return s
}

// of returns the task of a context; nil if there is none.
func of(ctx context.Context) *task {
	t, _ := ctx.Value(key{}).(*task)
	return t
}

// Part says that the task of the context is at a vBucket, counted from 1, of several.
func Part(ctx context.Context, part, parts int) {
	t := of(ctx)
	if t == nil || parts < 2 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.part, t.parts = part, parts
}

// Step begins a step of the task of the context. The total is in the unit; 0 means that it is
// not known.
func Step(ctx context.Context, text, unit string, total uint64) {
	t := of(ctx)
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.step = step{text: text, unit: unit, total: total, begun: time.Now()}
	t.done.Store(0)
}

// Add counts what was done of the step.
func Add(ctx context.Context, n uint64) {
	if t := of(ctx); t != nil {
		t.done.Add(n)
	}
}
