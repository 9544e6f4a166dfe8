package nodes

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serveHealth(t *testing.T) string {
	t.Helper()
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	return servertest.Serve(t, s, nil).Addr
}

func newClient(t *testing.T) *Client {
	t.Helper()
	o := options.DefaultOptions()
	o.Timeout = time.Minute
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func checkHealth(ctx context.Context, conn grpc.ClientConnInterface) error {
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// TestClientsOfTheirOwn holds that a client made from another one shares no connection
// with it: closing one leaves the other's calls alone.
func TestClientsOfTheirOwn(t *testing.T) {
	addr := serveHealth(t)
	first := newClient(t).To(addr)
	defer first.Close()
	second := first.To(addr)
	if err := errors.Join(first.Call(t.Context(), Reads, checkHealth), second.Call(t.Context(), Reads, checkHealth)); err != nil {
		t.Fatal(err)
	}
	conn, err := first.Connect(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if err := checkHealth(t.Context(), conn); err != nil {
		t.Errorf("after the other was closed: %v", err)
	}
	if err := second.Call(t.Context(), Reads, checkHealth); err == nil {
		t.Error("a closed client calls")
	}
}

// TestOpenSharesNothing holds that a load generator's connections are each their own.
func TestOpenSharesNothing(t *testing.T) {
	addr := serveHealth(t)
	c := newClient(t)
	one, closeOne, err := c.Open(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	two, closeTwo, err := c.Open(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer closeTwo()
	closeOne()
	if err := checkHealth(t.Context(), two); err != nil {
		t.Errorf("after the other was closed: %v", err)
	}
	if err := checkHealth(t.Context(), one); err == nil {
		t.Error("a closed connection calls")
	}
}

func TestNothingListens(t *testing.T) {
	addr := testkit.Refusing(t)
	var unreachable *UnreachableError
	_, err := newClient(t).Connect(t.Context(), addr)
	if !errors.As(err, &unreachable) || unreachable.Addr != addr {
		t.Errorf("%v", err)
	}
	if _, _, err := newClient(t).Open(t.Context(), addr); !errors.As(err, &unreachable) {
		t.Errorf("%v", err)
	}
}
