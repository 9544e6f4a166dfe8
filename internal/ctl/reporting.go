package ctl

import (
	"context"
	"time"

	"golang.org/x/term"

	"github.com/dkvdb/dkv/internal/ctl/progress"
)

// logEvery is how often progress is printed if stderr is no terminal.
const logEvery = 5 * time.Second

// reporter returns what shows the progress of a command, and whether anything does: not with
// -q or -progress 0, and with -o json only if -progress asks for it.
func (s *session) reporter() (progress.Reporter, bool) {
	r := progress.Reporter{Out: s.stderr, Style: progress.Lines, Every: logEvery}
	t := s.screen(s.stderr)
	switch given := s.Given["progress"]; {
	case s.Quiet || given && s.Options.Progress == 0 || s.JSON && !given:
		return r, false
	case s.JSON:
		r.Style, r.Every = progress.Documents, s.Options.Progress
	case t != nil:
		r.Style, r.Every = progress.Rewritten, s.Options.Progress
		if width, _, err := term.GetSize(int(t.Fd())); err == nil {
			r.Width = width
		}
	case given:
		r.Every = s.Options.Progress
	}
	return r, true
}

// report shows the progress of a command until stop is called.
func (s *session) report(ctx context.Context, look func(context.Context) progress.State) (stop func()) {
	r, shows := s.reporter()
	if !shows {
		return func() {}
	}
	return r.Run(ctx, look)
}
