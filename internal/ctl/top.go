package ctl

import (
	"context"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/dkvdb/dkv/internal/ctl/observe"
	"github.com/dkvdb/dkv/internal/ctl/top"
)

const (
	topInterval = time.Second
	// topTimeout bounds the questions of one frame: a node that does not answer must not
	// hold the others up.
	topTimeout = 2 * time.Second
)

// runTop shows the cluster until a key is typed, or prints -n frames.
func runTop(ctx context.Context, s *session, _ []string) error {
	one := s.to(s.Addrs...)
	defer one.Close()
	if one.Timeout = topTimeout; s.Given["timeout"] {
		one.Timeout = s.Timeout
	}
	interval := topInterval
	if s.Given["poll"] {
		interval = s.Poll
	}
	before := one.look(ctx)
	if err := s.noneAnswers(before); err != nil {
		return err
	}
	next := func(ctx context.Context) top.Frame {
		now := one.look(ctx)
		f := top.New(before, now)
		before = now
		return f
	}
	in, out := s.screen(s.stdin), s.screen(s.stdout)
	if in != nil && out != nil && !s.out.JSON && !s.Given["frames"] && !s.Given["output"] {
		return top.OnTerminal(ctx, in, out, top.Screen{Colour: s.coloured(), Interval: interval, Frames: s.Frames}, next)
	}
	return s.printFrames(ctx, interval, next)
}

// look asks all nodes for what a frame shows.
func (s *session) look(ctx context.Context) *observe.Cluster {
	return observe.Take(ctx, s.Client, observe.Want{Metrics: true, Health: true})
}

// printFrames prints a frame at each interval: as many as -n says, or until interrupted.
func (s *session) printFrames(ctx context.Context, interval time.Duration, next func(context.Context) top.Frame) error {
	for n := 1; ; n++ {
		if err := pause(ctx, interval); err != nil {
			return nil // interrupted, as it has to be without -n
		}
		f := next(ctx)
		if s.out.JSON {
			if err := s.out.Value(f); err != nil {
				return err
			}
		} else if _, err := s.out.W.WriteString(f.Text()); err != nil {
			return err
		}
		if err := s.out.W.Flush(); err != nil {
			return err
		}
		if n == s.Frames {
			return nil
		}
	}
}

// coloured reports whether output to a terminal may have colours.
func (s *session) coloured() bool {
	off, _ := s.env("NO_COLOR")
	return off == ""
}

// terminal returns the terminal that a stream is; nil if it is none.
func terminal(stream any) *os.File {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return f
}

// screen is terminal, but for one that can do no more than print lines.
func (s *session) screen(stream any) *os.File {
	t := terminal(stream)
	if t == nil {
		return nil
	}
	if kind, _ := s.env("TERM"); kind == "dumb" {
		return nil
	}
	return t
}
