// Package progress shows on stderr how far a command is that takes a while: on a terminal as
// one line that is rewritten, otherwise as a line every few seconds, or as JSON documents.
package progress

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/sleep"
)

// Style is how progress is shown.
type Style int

const (
	Rewritten Style = iota // one line of a terminal
	Lines
	Documents
)

// Reporter shows progress.
type Reporter struct {
	Out   io.Writer
	Style Style
	// Every is the time before it is shown first, and between two times.
	Every time.Duration
	// Width is that of the terminal, for Rewritten.
	Width int
}

// State is how far something is.
type State struct {
	// Text says what is done, or how far it is if there is no number for that. Empty shows
	// nothing.
	Text string
	// Done and Total count the same; Total is 0 if it is not known.
	Done, Total uint64
	// Unit is behind the rate; empty for what Text counts. Another one begins a new rate, and
	// so does another Step.
	Unit, Step string
	// Timed adds how long it has taken if Total is 0.
	Timed bool
}

// document is a State for scripts.
type document struct {
	Text           string  `json:"text"`
	Done           uint64  `json:"done,omitempty"`
	Total          uint64  `json:"total,omitempty"`
	Unit           string  `json:"unit,omitempty"`
	PerSecond      float64 `json:"per_second,omitempty"`
	SecondsLeft    float64 `json:"seconds_left,omitempty"`
	ElapsedSeconds float64 `json:"elapsed_seconds"`
}

// Run shows what look returns, until stop is called. A terminal's line is then empty again.
func (r Reporter) Run(ctx context.Context, look func(context.Context) State) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var reporting sync.WaitGroup
	reporting.Go(func() {
		m := meter{begun: time.Now()}
		last := ""
		for sleep.For(ctx, r.Every) {
			s := look(ctx)
			if ctx.Err() != nil || s.Text == "" {
				continue
			}
			if text := r.text(m.measure(s, time.Now()), s); text != last {
				r.write(text)
				last = text
			}
		}
		if last != "" && r.Style == Rewritten {
			r.write("")
		}
	})
	return func() { cancel(); reporting.Wait() }
}

// write shows a text. That it cannot be shown is no reason to end what is done.
func (r Reporter) write(text string) {
	if r.Style != Rewritten {
		fmt.Fprintln(r.Out, text)
		return
	}
	if width := r.Width - 1; width > 0 && utf8.RuneCountInString(text) > width {
		text = string([]rune(text)[:width])
	}
	fmt.Fprint(r.Out, "\r"+text+"\x1b[K")
}

func (r Reporter) text(d document, s State) string {
	if r.Style == Documents {
		raw, _ := json.Marshal(d) // texts and finite numbers always encode
		return string(raw)
	}
	text := output.Printable(strings.Join(strings.Fields(s.Text), " "))
	switch {
	case s.Total > 0 && d.PerSecond > 0:
		return fmt.Sprintf("%s (%.0f%%, %s%s/s, %s left)", text, 100*float64(s.Done)/float64(s.Total), short(d.PerSecond), s.Unit, left(d.SecondsLeft))
	case s.Timed && s.Total > 0:
		return fmt.Sprintf("%s (%.0f%%): %s so far", text, 100*float64(s.Done)/float64(s.Total), left(d.ElapsedSeconds))
	case s.Timed:
		return fmt.Sprintf("%s: %s so far", text, left(d.ElapsedSeconds))
	}
	return text
}

// meter measures a rate from when it saw the first number.
type meter struct {
	begun, first time.Time
	from         uint64
	unit, step   string
}

// leastMeasured is how long a rate is measured before it is shown.
const leastMeasured = time.Second

func (m *meter) measure(s State, now time.Time) document {
	d := document{Text: s.Text, Done: s.Done, Total: s.Total, Unit: s.Unit, ElapsedSeconds: now.Sub(m.begun).Seconds()}
	if s.Total == 0 {
		return d
	}
	if m.first.IsZero() || s.Done < m.from || s.Unit != m.unit || s.Step != m.step {
		m.first, m.from, m.unit, m.step = now, s.Done, s.Unit, s.Step
		return d
	}
	if measured := now.Sub(m.first); measured >= leastMeasured && s.Done > m.from {
		d.PerSecond = float64(s.Done-m.from) / measured.Seconds()
		d.SecondsLeft = float64(s.Total-min(s.Done, s.Total)) / d.PerSecond
	}
	return d
}

// left writes a number of seconds for people.
func left(seconds float64) string {
	return (time.Duration(seconds) * time.Second).String()
}

func short(f float64) string {
	switch {
	case f >= 1e6:
		return fmt.Sprintf("%.1fM", f/1e6)
	case f >= 1e3:
		return fmt.Sprintf("%.1fk", f/1e3)
	case f >= 10:
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.1f", f)
}
