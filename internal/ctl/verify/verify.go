package verify

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/sleep"
)

// How often -verify asks again while nodes hash different indexes, and how long it
// waits before each try: longer from try to try, up to half a minute in total.
const (
	tries      = 50
	firstPause = 50 * time.Millisecond
	maxPause   = 800 * time.Millisecond
	// minTries are made however long each takes; the others only within
	// patience, since hashing a large database takes minutes.
	minTries = 3
	patience = 5 * time.Minute
)

// Verifier asks nodes for the hashes of their contents.
type Verifier struct {
	nodes []*nodes.Client // of one address each; their connections are kept
	// wait waits before a try, counted from 1.
	wait func(ctx context.Context, try int) error
}

// New returns what compares the nodes at these addresses, with the options of client.
func New(client *nodes.Client, addrs []string) *Verifier {
	v := &Verifier{wait: pause}
	for _, addr := range addrs {
		v.nodes = append(v.nodes, client.To(addr))
	}
	return v
}

// Close closes the connections.
func (v *Verifier) Close() {
	for _, node := range v.nodes {
		node.Close()
	}
}

// pause waits for a random time, so that tries do not coincide with writes that
// come at intervals.
func pause(ctx context.Context, try int) error {
	d := min(firstPause*time.Duration(try), maxPause)
	if !sleep.For(ctx, d/2+rand.N(d)) {
		return ctx.Err()
	}
	return nil
}

// Compare asks all nodes until all of them have returned the hash of the same index.
// During writes each hashes another index; an earlier answer of one may match a later
// answer of another, so every answer is kept.
func (v *Verifier) Compare(ctx context.Context, vBucket string) (*Verdict, error) {
	if err := v.connect(ctx); err != nil {
		return nil, err
	}
	seen := make([]map[uint64]Content, len(v.nodes))
	for i := range seen {
		seen[i] = make(map[uint64]Content)
	}
	began := time.Now()
	var last []Content
	for try := range tries {
		if try >= minTries && time.Since(began) > patience {
			break
		}
		if try > 0 {
			if err := v.wait(ctx, try); err != nil {
				return nil, err
			}
		}
		var err error
		if last, err = v.contents(ctx, vBucket); err != nil {
			return nil, err
		}
		for i, c := range last {
			seen[i][c.Index] = c
		}
		if same := sameIndex(seen); same != nil {
			return judge(vBucket, same), nil
		}
	}
	return &Verdict{VBucket: vBucket, Verdict: notComparable, Nodes: last, Behind: behind(seen, last)}, nil
}

// connect makes all connections first, so that afterwards all requests reach their
// nodes at about the same time and so, most likely, at the same index.
func (v *Verifier) connect(ctx context.Context) error {
	return v.each(func(_ int, node *nodes.Client) error {
		ctx, cancel := context.WithTimeout(ctx, node.Timeout)
		defer cancel()
		_, err := node.Connect(ctx, node.Addrs[0])
		return err
	})
}

// contents asks every node once.
func (v *Verifier) contents(ctx context.Context, vBucket string) ([]Content, error) {
	contents := make([]Content, len(v.nodes))
	err := v.each(func(i int, node *nodes.Client) error {
		var res *serverpb.ContentHashResponse
		err := node.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
			res, err = admin.ContentHash(ctx, conn, vBucket)
			return err
		})
		contents[i] = Content{VBucket: vBucket, Address: node.Addrs[0], Index: res.GetIndex(), Keys: res.GetKeys(),
			Hash: hex.EncodeToString(res.GetHash()), History: res.GetHistoryId()}
		return err
	})
	return contents, err
}

// each calls f for all nodes at the same time. It returns the first error in the order
// of the nodes.
func (v *Verifier) each(f func(i int, node *nodes.Client) error) error {
	errs := make([]error, len(v.nodes))
	var group sync.WaitGroup
	for i, node := range v.nodes {
		group.Go(func() { errs[i] = f(i, node) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
