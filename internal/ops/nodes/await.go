package nodes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// readTimeout is how long a node may take to begin its answer to what reads.
	readTimeout = 15 * time.Second
	// lookInterval is how often a node that acts, which may take any time, is asked whether
	// it still serves HTTP, and maxMissed how often it may fail to say so.
	lookInterval, maxMissed = 5 * time.Second, 3
	// maxQuick bounds that answer.
	maxQuick = 4 << 10
)

// errSilent ends a request to a node that has stopped answering.
var errSilent = errors.New("it does not answer any more")

// await cancels a request to a node that will not answer: its process may be stopped or its
// host cut off, which no error of the connection tells. The function that it returns ends
// that, once there is an answer.
func (s *Service) await(ctx context.Context, cancel context.CancelCauseFunc, r *http.Request, n Node) (answered func()) {
	if r.Method == http.MethodGet {
		timer := time.AfterFunc(s.readTimeout, func() {
			cancel(fmt.Errorf("it does not answer within %v", s.readTimeout))
		})
		return func() { timer.Stop() }
	}
	looking, stop := context.WithCancel(ctx)
	go func() {
		for missed := 0; sleep.For(looking, s.lookInterval); {
			if missed++; s.answers(looking, r, n) {
				missed = 0
			}
			if missed >= maxMissed && looking.Err() == nil {
				cancel(errSilent)
				return
			}
		}
	}()
	return stop
}

// answers reports whether a node serves HTTP.
func (s *Service) answers(ctx context.Context, r *http.Request, n Node) bool {
	ctx, cancel := context.WithTimeout(ctx, s.lookInterval)
	defer cancel()
	_, _, err := s.fetch(ctx, r, n, "/health/quick", &room{left: maxQuick})
	return err == nil
}

// notSent is the error of a connection that could not be made.
type notSent struct{ error }

// Unwrap returns the error itself.
func (e *notSent) Unwrap() error { return e.error }

// failed is the error of a request that a node has not answered, and says whether it may have
// been carried out.
func failed(ctx context.Context, method string, n Node, err error) error {
	var before *notSent
	sent := !errors.As(err, &before)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if method == http.MethodGet || !sent {
		return fmt.Errorf("node %s cannot be asked: %w", n.Name, err)
	}
	return fmt.Errorf("node %s has not answered: %w; it may have done what was asked, or may still do it: look at its state and its log before you repeat it", n.Name, err)
}
