package slave

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// silent is a master from which nothing arrives.
func silent() uint64 { return 0 }

// The watchdog may end a stream at the moment in which a message arrives, and nothing more is
// received then: the session must not go on without its stream.
func TestMessageAtTheEndOfPatienceEndsTheSession(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	w := newWatchdog(minPatience, minPatience, silent, end)
	defer w.stop()
	end(errSilent)
	if passed, err := w.pass(ctx, stretch{}, nil); passed || !errors.Is(err, errSilent) {
		t.Errorf("the stream of a silent master ends with %v", err)
	}
}

// A session that ends by itself has no error of its stream.
func TestStreamOfAnEndedSessionHasNoError(t *testing.T) {
	outer, leave := context.WithCancel(t.Context())
	ctx, end := context.WithCancelCause(outer)
	w := newWatchdog(minPatience, minPatience, silent, end)
	defer w.stop()
	leave()
	if passed, err := w.pass(ctx, stretch{}, nil); passed || err != nil {
		t.Error(passed, err)
	}
}

// TestLogGoesBackUnderAStream has the copy that a slave follows replaced by an earlier state of the
// same history, as an operator orders when the masters have lost the end of their log, and come to
// other changes within a moment: the stream does not go on as if nothing had happened.
func TestLogGoesBackUnderAStream(t *testing.T) {
	for name, upTo := range map[string]kv.Index{"shorter": 1, "as long": 5, "longer": 9} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				m := r.master("m1:1")
				m.put("k", "1")
				old, twin := r.twin("old:1", m), r.twin("m2:1", m)
				s := r.slave(source.Fixed("m2:1"), streaming)
				s.has(m)
				for range 4 {
					m.put("k", "2")
				}
				twin.sync(m)
				s.has(m)
				time.Sleep(time.Second)
				twin.goBack(old, upTo)
				time.Sleep(time.Minute)
				s.equals(m)
				if err := s.Healthy(); err == nil {
					t.Errorf("it is healthy: %+v", s.Puller.Status())
				}
			})
		})
	}
}
