package systems

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/dkvdb/dkv/internal/sleep"
)

// reconnect tries a node that was killed again soon.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.2, MaxDelay: 200 * time.Millisecond},
	MinConnectTimeout: time.Second,
}

// How the first write after a kill is found.
const (
	writeTimeout = 500 * time.Millisecond
	writePause   = 5 * time.Millisecond
)

// Failover kills the leader with SIGKILL, and returns how long it takes until another node
// acknowledges a write that began after the kill. It then starts the killed node again and
// waits until all nodes serve.
func (s *System) Failover(ctx context.Context) (time.Duration, error) {
	leader, err := s.Leader(ctx)
	if err != nil {
		return 0, err
	}
	writeCtx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	begun := time.Now()
	leader.process.Kill()
	first := make(chan time.Duration, len(s.Nodes))
	for _, n := range s.Nodes {
		if n == leader {
			continue
		}
		go func() {
			for writeCtx.Err() == nil {
				if n.write(writeCtx, "failover", writeTimeout) == nil {
					first <- time.Since(begun)
					return
				}
				sleep.For(writeCtx, writePause)
			}
		}()
	}
	var took time.Duration
	select {
	case took = <-first:
		cancel()
	case <-writeCtx.Done():
		return 0, fmt.Errorf("%s: no write was acknowledged within %s after its leader was killed", s.Name, healthyWithin)
	}
	if err := s.run(leader); err != nil {
		return 0, err
	}
	return took, s.AwaitHealthy(ctx)
}
