package top

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// Screen shows frames on a terminal until a key ends that.
type Screen struct {
	Out    io.Writer
	Keys   io.Reader
	Colour bool
	// Size returns the columns and lines of the terminal.
	Size func() (width, height int)
	// Interval is the time between two frames.
	Interval time.Duration
	// Frames ends it after so many frames; 0 does not.
	Frames int
}

const (
	openScreen  = "\x1b[?1049h\x1b[?25l" // another screen, without a cursor
	closeScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	toLineEnd   = "\x1b[K"
	toEnd       = "\x1b[J"
)

// Run shows what next returns, at the intervals, until q, Ctrl-C or Ctrl-D is typed or ctx
// ends. The screen is then as it was before.
func (s *Screen) Run(ctx context.Context, next func(context.Context) Frame) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the reader
		defer cancel()
		waitForQuit(s.Keys)
	}()
	if _, err := io.WriteString(s.Out, openScreen); err != nil {
		return err
	}
	err := s.show(ctx, next)
	if _, closeErr := io.WriteString(s.Out, closeScreen); err == nil {
		err = closeErr
	}
	return err
}

func (s *Screen) show(ctx context.Context, next func(context.Context) Frame) error {
	tick := time.NewTicker(s.Interval)
	defer tick.Stop()
	for n := 1; ; n++ {
		f := next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if _, err := io.WriteString(s.Out, s.draw(&f)); err != nil {
			return err
		}
		if n == s.Frames {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// draw writes a frame over the one before.
func (s *Screen) draw(f *Frame) string {
	width, height := s.Size()
	lines := f.lines(width, height, true)
	var b strings.Builder
	b.WriteString(home)
	for i, l := range lines[:min(len(lines), max(height, 1))] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if s.Colour && l.style != plain {
			b.WriteString(string(l.style) + l.text + reset)
		} else {
			b.WriteString(l.text)
		}
		b.WriteString(toLineEnd)
	}
	b.WriteString(toEnd)
	return b.String()
}

// waitForQuit returns when a key is typed that ends the view, or no more can be typed.
func waitForQuit(keys io.Reader) {
	buf := make([]byte, 16)
	for {
		n, err := keys.Read(buf)
		if strings.ContainsAny(string(buf[:n]), "qQ\x03\x04") || err != nil {
			return
		}
	}
}

// OnTerminal runs a screen on a terminal whose keys are those of in. Both are as before
// afterwards.
func OnTerminal(ctx context.Context, in, out *os.File, s Screen, next func(context.Context) Frame) error {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return err
	}
	defer func() { _ = term.Restore(int(in.Fd()), before) }() // there is nothing else to try
	s.Out, s.Keys = out, in
	s.Size = func() (int, int) {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil || width < 1 || height < 1 {
			return 80, 24
		}
		return width, height
	}
	return s.Run(ctx, next)
}
