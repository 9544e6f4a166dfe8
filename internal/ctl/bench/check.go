package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/sleep"
)

// checkBatch is how many keys one request of Check reads, in number and in
// bytes of values: the answer has to fit into a message.
const (
	checkBatch      = 100
	checkBatchBytes = 1 << 20
)

// shownLosses is how many lost keys a report names.
const shownLosses = 10

// LedgerReport is the result of Check.
type LedgerReport struct {
	Acknowledged uint64 `json:"acknowledged"`
	// Lost are keys that are missing or hold another value.
	Lost uint64 `json:"lost"`
	// Examples name the first of them.
	Examples []string `json:"examples,omitempty"`
}

// Check reads back, linearizably, every key of the ledger at path. A server
// that is unavailable is asked again for as long as timeout allows, each time.
func Check(ctx context.Context, path string, target Target, workers int, timeout time.Duration) (*LedgerReport, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the ledger: %w", err)
	}
	defer file.Close()
	c := &checker{timeout: timeout}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(max(workers, 1))
	if err := c.batches(groupCtx, file, group, target); err != nil {
		group.Go(func() error { return err })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return &c.report, nil
}

type checker struct {
	timeout time.Duration
	mu      sync.Mutex
	report  LedgerReport
}

// batches cuts the ledger into requests and hands them to the group.
func (c *checker) batches(ctx context.Context, ledger io.Reader, group *errgroup.Group, target Target) error {
	var batch []entry
	size, sent := 0, 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		conn, entries := target.Conns[sent%len(target.Conns)], batch
		group.Go(func() error { return c.check(ctx, conn, entries) })
		batch, size, sent = nil, 0, sent+1
		return ctx.Err()
	}
	err := readLedger(ledger, func(e entry) error {
		batch = append(batch, e)
		size += len(e.value)
		if len(batch) == checkBatch || size >= checkBatchBytes {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

func (c *checker) check(ctx context.Context, conn grpc.ClientConnInterface, entries []entry) error {
	req := &serverpb.MultiGetRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}
	for _, e := range entries {
		req.Keys = append(req.Keys, e.key)
	}
	res, err := c.read(ctx, conn, req)
	if err != nil {
		return fmt.Errorf("cannot read the keys of the ledger back: %w", readable(err))
	}
	there := make(map[string][]byte, len(res.GetKeyValues()))
	for _, pair := range res.GetKeyValues() {
		there[string(pair.GetKey())] = pair.GetValue()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		c.report.Acknowledged++
		value, ok := there[string(e.key)]
		if ok && bytes.Equal(value, e.value) {
			continue
		}
		c.report.Lost++
		if len(c.report.Examples) < shownLosses {
			c.report.Examples = append(c.report.Examples, string(e.key))
		}
	}
	return nil
}

// read asks until the server is there or the time is up.
func (c *checker) read(ctx context.Context, conn grpc.ClientConnInterface, req *serverpb.MultiGetRequest) (*serverpb.MultiGetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for {
		res, err := serverpb.NewDKVClient(conn).MultiGet(ctx, req)
		if err == nil {
			return res, failed(res.GetStatus())
		}
		if status.Code(err) != codes.Unavailable {
			return nil, err
		}
		sleep.For(ctx, retryPause)
		if ctx.Err() != nil {
			return nil, err
		}
	}
}
