package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/doctor"
	"github.com/dkvdb/dkv/internal/ctl/observe"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// errProblems is the result of -doctor that has found problems: they have been printed.
var errProblems = errors.New("there are problems")

// runDoctor examines the cluster of the nodes of -a, and their hosts.
func runDoctor(ctx context.Context, s *session, _ []string) error {
	c := observe.Take(ctx, s.Client, observe.Want{Metrics: true, Health: true, Report: true})
	if err := s.noneAnswers(c); err != nil {
		return err
	}
	d := doctor.Examine(c)
	if s.out.JSON {
		if err := s.out.Value(d); err != nil {
			return err
		}
	} else if err := d.Write(s.out.W, s.Verbose); err != nil {
		return err
	}
	s.sayUnexamined(c)
	if d.Problems > 0 {
		return fmt.Errorf("%w: %d", errProblems, d.Problems)
	}
	return ctx.Err()
}

// noneAnswers returns why no node answers; nil if one does.
func (s *session) noneAnswers(c *observe.Cluster) error {
	var texts []string
	for _, n := range c.Nodes {
		if n.Status != nil {
			return nil
		}
		texts = append(texts, n.Err.Error())
	}
	return errors.New(strings.Join(texts, "; "))
}

// sayUnexamined says on stderr why the hosts of some nodes could not be examined.
func (s *session) sayUnexamined(c *observe.Cluster) {
	for _, n := range c.Nodes {
		if n.HTTPErr != nil {
			_, _ = io.WriteString(s.stderr, output.OneLine("not examined further: "+n.Name()+": "+n.HTTPErr.Error())+"\n")
		}
	}
}
