package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
)

// What honest clients write and read.
const (
	honestKeys  = 200
	honestValue = 512
	// honestClients do so many operations a second each.
	honestClients, honestRate = 4, 50
	// newcomerPause is the time between two clients that connect for the first time.
	newcomerPause = 250 * time.Millisecond
	honestTimeout = 5 * time.Second
)

func honestKey(i int) []byte { return fmt.Appendf(nil, "honest/%06d", i) }

// honest are well-behaved clients, while they run.
type honest struct {
	f      *field
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu  sync.Mutex
	now *felt
}

// felt is what honest clients notice in a window of time.
type felt struct {
	took      []time.Duration // operations on open connections
	newcomers []time.Duration // connecting, and a first read
	health    []time.Duration // of HTTP
	errors    map[string]int
	failed    int // of took and newcomers
	lost      int // of those, the ones that found no key, or another value
}

// p is a quantile of durations.
func p(of []time.Duration, q float64) time.Duration {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)].Round(10 * time.Microsecond)
}

func (w *felt) String() string {
	s := fmt.Sprintf("p50 %v p99 %v max %v of %d, newcomers p50 %v max %v of %d, health max %v", p(w.took, .5), p(w.took, .99), p(w.took, 1),
		len(w.took), p(w.newcomers, .5), p(w.newcomers, 1), len(w.newcomers), p(w.health, 1))
	if w.failed > 0 {
		s += fmt.Sprintf(", %d failed: %v", w.failed, w.errors)
	}
	return s
}

// behave starts honest clients, which run until the test ends.
func behave(f *field) *honest {
	ctx, cancel := context.WithCancel(context.Background())
	h := &honest{f: f, cancel: cancel, now: &felt{errors: make(map[string]int)}}
	for i := range honestClients {
		h.done.Go(func() { h.use(ctx, i) })
	}
	h.done.Go(func() { h.come(ctx) })
	h.done.Go(func() { h.ask(ctx) })
	f.t.Cleanup(func() { cancel(); h.done.Wait() })
	return h
}

// window returns what was noticed since the last window ended.
func (h *honest) window() *felt {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.now
	h.now = &felt{errors: make(map[string]int)}
	return out
}

func (h *honest) note(err error, add func(*felt)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	add(h.now)
	if err != nil {
		h.now.failed++
		if errors.Is(err, errGone) {
			h.now.lost++
		}
		h.now.errors[fmt.Sprintf("%s: %.200s", status.Code(err), status.Convert(err).Message())]++
	}
}

// use writes and reads by turns on connections that stay open.
func (h *honest) use(ctx context.Context, client int) {
	writes, reads := h.f.connect(h.f.writes.grpc), h.f.connect(h.f.reads[client%len(h.f.reads)].grpc)
	defer writes.Close()
	defer reads.Close()
	value := make([]byte, honestValue)
	every(ctx, time.Second/honestRate, func(n int) {
		n += client
		key := honestKey(rand.IntN(honestKeys))
		begun := time.Now()
		err := h.within(ctx, func(ctx context.Context) (err error) {
			if n%2 == 0 {
				_, err = serverpb.NewDKVClient(writes).Put(ctx, &serverpb.PutRequest{Key: key, Value: value})
				return err
			}
			return found(serverpb.NewDKVClient(reads).Get(ctx, &serverpb.GetRequest{Key: key, ReadConsistency: serverpb.ReadConsistency(n / 2 % 2)}))
		})
		if ctx.Err() == nil {
			h.note(err, func(w *felt) { w.took = append(w.took, time.Since(begun)) })
		}
	})
}

// every calls f at an interval, with how often it has before, until ctx ends.
func every(ctx context.Context, interval time.Duration, f func(n int)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f(n)
	}
}

// within calls once, with a deadline.
func (h *honest) within(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, honestTimeout)
	defer cancel()
	return call(ctx)
}

var errGone = errors.New("an honest key is gone")

// found is an error if an honest key is not there.
func found(got *serverpb.GetResponse, err error) error {
	if err == nil && (!got.GetFound() || len(got.GetValue()) != honestValue) {
		err = fmt.Errorf("%w: found %v, %d bytes", errGone, got.GetFound(), len(got.GetValue()))
	}
	return err
}

// come connects again and again, each time as a new client.
func (h *honest) come(ctx context.Context) {
	every(ctx, newcomerPause, func(n int) {
		begun := time.Now()
		conn := h.f.connect(h.f.reads[n%len(h.f.reads)].grpc)
		err := h.within(ctx, func(ctx context.Context) error {
			return found(serverpb.NewDKVClient(conn).Get(ctx, &serverpb.GetRequest{Key: honestKey(0)}))
		})
		_ = conn.Close()
		if err == nil && h.f.registry != nil {
			err = h.lookUp(ctx)
		}
		if ctx.Err() == nil {
			h.note(err, func(w *felt) { w.newcomers = append(w.newcomers, time.Since(begun)) })
		}
	})
}

// lookUp finds the leader of the database in the registry, by a new connection.
func (h *honest) lookUp(ctx context.Context) error {
	conn := h.f.connect(h.f.registry.grpc)
	defer conn.Close()
	return h.within(ctx, func(ctx context.Context) error {
		database := "default"
		got, err := serverpb.NewDKVDiscoveryClient(conn).GetClusterInfo(ctx, &serverpb.GetClusterInfoRequest{Database: &database})
		if err != nil {
			return err
		}
		for _, row := range got.GetRegionInfos() {
			if row.GetStatus() == serverpb.RegionStatus_LEADER && row.GetNodeAddress() == h.f.writes.grpc {
				return nil
			}
		}
		return fmt.Errorf("the registry does not show the leader %s: %.500v", h.f.writes.grpc, got.GetRegionInfos())
	})
}

// ask polls the nodes by HTTP: their liveness, as an orchestrator does, their metrics, and a key.
func (h *honest) ask(ctx context.Context) {
	paths := []string{"/livez", "/metrics", "/livez", "/data/get?level=sequential&key=" + string(honestKey(0))}
	if h.f.registry != nil {
		paths = paths[:3] // the registry has no keys
	}
	client := http.Client{Timeout: honestTimeout, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) },
	}}
	every(ctx, newcomerPause, func(n int) {
		begun := time.Now()
		path := paths[n%len(paths)]
		resp, err := client.Get("http://" + h.f.target.HTTP[n/len(paths)%len(h.f.target.HTTP)] + path)
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			if resp.Body.Close(); resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s: %s: %s", path, resp.Status, body)
			}
		}
		if ctx.Err() == nil {
			h.note(err, func(w *felt) { w.health = append(w.health, time.Since(begun)) })
		}
	})
}
