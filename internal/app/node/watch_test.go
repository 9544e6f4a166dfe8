package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchLooksWhenSomethingChanges: it looks at once, again soon after a change, not more
// often than is worth it, and after a while without one.
func TestWatchLooksWhenSomethingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(Node)
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		var looks []time.Duration
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			n.Watch(ctx, func() time.Duration {
				looks = append(looks, time.Since(began))
				return time.Minute
			})
		}()
		at := func(at time.Duration, want ...time.Duration) {
			t.Helper()
			time.Sleep(at - time.Since(began))
			synctest.Wait()
			if len(looks) != len(want) {
				t.Fatalf("after %v it has looked at %v, not at %v", at, looks, want)
			}
			for i := range want {
				if looks[i] != want[i] {
					t.Fatalf("after %v it has looked at %v, not at %v", at, looks, want)
				}
			}
		}
		at(0, 0)
		n.Changed.Raise()
		n.Changed.Raise()
		at(time.Millisecond, 0)
		at(lookPause, 0, lookPause)
		at(time.Second, 0, lookPause)
		n.Changed.Raise()
		at(time.Second, 0, lookPause, time.Second)
		at(61*time.Second, 0, lookPause, time.Second, 61*time.Second)
		stop()
		<-ended
	})
}
