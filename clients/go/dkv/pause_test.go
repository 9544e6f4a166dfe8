package dkv

import (
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
)

// A pause that would outlast the caller's deadline ends with news of the topology, by which the
// call may still succeed, and with the client.
func TestLastPauseEndsWithNews(t *testing.T) {
	c := ready(t, newCluster(t, 1, 1).addrs())
	ctx := testkit.Within(t, enough)
	for _, end := range []struct {
		what string
		by   func()
		want error
	}{{"a change", c.changed.Raise, nil}, {"Close", func() { _ = c.Close() }, ErrClosed}} {
		done := make(chan error, 1)
		go func() { done <- c.sleep(ctx, 2*enough) }()
		testkit.Eventually(t, end.what+" ends the pause", func() bool {
			end.by()
			select {
			case err := <-done:
				if !errors.Is(err, end.want) {
					t.Errorf("%s: %v", end.what, err)
				}
				return true
			default:
				return false
			}
		})
	}
}
