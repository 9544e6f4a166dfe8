package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/ctl/survey"
)

// runStatus asks every address at the same time, then the members that no address
// names.
func runStatus(ctx context.Context, s *session, _ []string) error {
	v, unknown := survey.Take(ctx, s.Client)
	if err := survey.Print(s.out, v.Rows, s.Verbose); err != nil {
		return err
	}
	if unknown != nil {
		return unknown
	}
	return v.Majority()
}

// runHealth asks one node about itself alone: the state of the cluster, which -status
// shows, must not make a supervisor restart a node that serves.
func runHealth(ctx context.Context, s *session, _ []string) error {
	var res *healthpb.HealthCheckResponse
	err := s.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		res, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	})
	if err != nil {
		return err
	}
	if st := res.GetStatus(); st != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s does not serve: %s%s", strings.Join(s.Addrs, ","), st, s.whyNot(ctx))
	}
	s.sayRejects(ctx)
	return s.out.OK(0)
}

// rejectsTimeout bounds the second question of -health: the answer to the first one must not wait
// for long.
const rejectsTimeout = time.Second

// sayRejects says on stderr why a node that serves rejects writes, as while its disk is full. It
// serves reads, and a restart would not help: that is no reason to fail.
func (s *session) sayRejects(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rejectsTimeout)
	defer cancel()
	row := survey.Ask(ctx, s.Client, strings.Join(s.Addrs, ","))
	if why := row.Warning(); why != "" {
		fmt.Fprintln(s.stderr, output.OneLine("warning: "+why))
	}
}

// whyNot returns why a node does not serve, as the end of a sentence.
func (s *session) whyNot(ctx context.Context) string {
	if row := survey.Ask(ctx, s.Client, strings.Join(s.Addrs, ",")); row.Reason != "" {
		return "; " + row.Reason
	}
	return "; see -status"
}
