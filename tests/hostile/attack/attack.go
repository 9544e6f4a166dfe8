// Package attack has what a hostile client can do to nodes: everything that can be sent
// without credentials, from floods of frames to requests that are merely expensive.
//
// An attack runs until it is stopped, and tries again whatever is closed or refused. It
// counts the answers, so that a report can say which limits it hit.
package attack

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit/rawgrpc"
)

// Kind is what is attacked.
type Kind string

// The kinds of fields.
const (
	RocksDB  Kind = "standalone rocksdb"
	Badger   Kind = "standalone badger"
	Masters  Kind = "three masters"
	Slave    Kind = "slave"
	Registry Kind = "registry"
)

// Target is the nodes that are attacked.
type Target struct {
	GRPC, HTTP, Raft []string
	Kind             Kind
	// Pace is how many actions a second an attack may do, such as calls, or floods of
	// frames on a connection; 0 is as many as it can.
	Pace float64
}

// Attack is one way to attack.
type Attack struct {
	Name    string
	Against []Kind
	// Run attacks until ctx ends.
	Run func(context.Context, *Enemy)
}

var (
	alone = []Kind{RocksDB, Badger}
	data  = []Kind{RocksDB, Badger, Masters, Slave}
	wire  = []Kind{RocksDB, Masters}
	every = []Kind{RocksDB, Badger, Masters, Slave, Registry}
)

// All returns the attacks, ordered by what they strain.
func All() []Attack {
	return slices.Concat(connections, frames, messages, streams, requests, storage, admin, registry, forwarded, overHTTP, confirms, fields)
}

// Named returns the attack with a name.
func Named(name string) (Attack, error) {
	all := All()
	i := slices.IndexFunc(all, func(a Attack) bool { return a.Name == name })
	if i < 0 {
		return Attack{}, fmt.Errorf("there is no attack %q", name)
	}
	return all[i], nil
}

// Enemy is a hostile client, or many of them.
type Enemy struct {
	Target
	turn    atomic.Uint64
	pace    *rate.Limiter
	actions atomic.Int64

	mu      sync.Mutex
	answers map[string]int
}

// NewEnemy returns a hostile client of a target.
func NewEnemy(t Target) *Enemy {
	pace := rate.Inf
	if t.Pace > 0 {
		pace = rate.Limit(t.Pace)
	}
	return &Enemy{Target: t, pace: rate.NewLimiter(pace, 1), answers: make(map[string]int)}
}

// Actions returns how many actions the enemy has begun.
func (e *Enemy) Actions() int64 { return e.actions.Load() }

// act waits until the next action is due; it reports false once ctx ends.
func (e *Enemy) act(ctx context.Context) bool {
	if e.pace.Wait(ctx) != nil {
		return false
	}
	e.actions.Add(1)
	return true
}

// Answers returns how often the enemy got which answer.
func (e *Enemy) Answers() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, what := range slices.Sorted(maps.Keys(e.answers)) {
		out = append(out, fmt.Sprintf("%s %d", what, e.answers[what]))
	}
	return strings.Join(out, ", ")
}

func (e *Enemy) count(what string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answers[what] += n
}

// answered counts the outcome of a call.
func (e *Enemy) answered(err error) { e.count(status.Code(err).String(), 1) }

// host is the address that the enemy comes from unless it takes many: it is not that
// of honest clients, which are bounded by host.
const host = "127.66.6.6"

// dial connects from a host.
func (e *Enemy) dial(ctx context.Context, addr, from string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	// With small buffers, what is not read stays with the server.
	d.Control = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10)
		})
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		e.count("no connection", 1)
	}
	return conn, err
}

// next returns one of several, in turn.
func (e *Enemy) next(of []string) string {
	return of[int(e.turn.Add(1))%len(of)]
}

// raw opens a connection that follows no rules, to one of the nodes; nil if that fails. It
// is closed when ctx ends.
func (e *Enemy) raw(ctx context.Context, window uint32, reads bool) *rawgrpc.Client {
	return e.rawFrom(ctx, host, window, reads)
}

func (e *Enemy) rawFrom(ctx context.Context, from string, window uint32, reads bool) *rawgrpc.Client {
	conn, err := e.dial(ctx, e.next(e.GRPC), from)
	if err != nil {
		return nil
	}
	c, err := rawgrpc.New(conn, window, reads)
	if err != nil {
		conn.Close()
		return nil
	}
	context.AfterFunc(ctx, c.Close)
	return c
}

// drained counts the ends of calls until the connection is gone.
func (e *Enemy) drained(ctx context.Context, c *rawgrpc.Client) {
	for {
		select {
		case end := <-c.Ends:
			e.count(end.Code.String(), 1)
		case <-c.Gone:
			e.count("connection closed", 1)
			return
		case <-ctx.Done():
			return
		}
	}
}

// client opens a connection by gRPC's own client, which is closed when ctx ends.
func (e *Enemy) client(ctx context.Context) *grpc.ClientConn {
	const most = 256 << 20
	c, err := grpc.NewClient("passthrough:///"+e.next(e.GRPC),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return e.dial(ctx, addr, host) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(most), grpc.MaxCallSendMsgSize(most)),
		grpc.WithDisableRetry())
	if err != nil {
		panic(err) // of an address that a test has made
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	return c
}

func (e *Enemy) kv(ctx context.Context) serverpb.DKVClient {
	return serverpb.NewDKVClient(e.client(ctx))
}

// pause is how long an enemy waits after a failure: it is to load the server's processor,
// not its own.
const pause = 20 * time.Millisecond

// often runs f again and again, n at a time, until ctx ends. One that reports a
// failure is run again after a pause.
func (e *Enemy) often(ctx context.Context, n int, f func(ctx context.Context, worker int) bool) {
	var workers sync.WaitGroup
	for i := range n {
		workers.Go(func() {
			for e.act(ctx) {
				if !f(ctx, i) {
					sleep(ctx, pause)
				}
			}
		})
	}
	workers.Wait()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// calls makes calls of one kind, n at a time.
func (e *Enemy) calls(ctx context.Context, n int, f func(context.Context, serverpb.DKVClient) error) {
	clients := []serverpb.DKVClient{e.kv(ctx), e.kv(ctx), e.kv(ctx), e.kv(ctx)}
	e.often(ctx, n, func(ctx context.Context, i int) bool {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		err := f(ctx, clients[i%len(clients)])
		e.answered(err)
		return err == nil
	})
}

// junk are n random bytes.
func junk(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rand.Uint32())
	}
	return out
}
