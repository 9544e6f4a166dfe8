package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// expiring is a client's present key that expires. The client puts it with one or two
// seconds to live, and compares and sets it at about its expiry. Only the log's clock
// decides whether the key was still there, and all nodes must agree.
type expiring struct {
	key, value string
	// update is when it is compared and set.
	update time.Time
}

// use does the next operation on the key, or starts with another key.
func (e *expiring) use(ctx context.Context, c *client) {
	node := c.node()
	switch {
	case node == nil:
	case e.key == "":
		e.put(ctx, c, node)
	case time.Now().After(e.update):
		e.compareAndSet(ctx, c, node)
		e.key = ""
	}
}

func (e *expiring) put(ctx context.Context, c *client, node serverpb.DKVClient) {
	at := time.Now().Unix() + 2
	v := c.unique()
	key := fmt.Sprintf("%s%d-%s", expiringKeys, at, v)
	call := c.history.now()
	resp, err := node.Put(ctx, &serverpb.PutRequest{Key: []byte(key), Value: []byte(v), ExpireTS: uint64(at)})
	if err != nil {
		c.failed(key, v, err)
		return
	}
	c.acked(call, resp.GetHistory())
	// From well before to a little after the expiry.
	e.key, e.value = key, v
	e.update = time.Unix(at, 0).Add(time.Duration(c.rng.IntN(1200)-1000) * time.Millisecond)
}

// compareAndSet makes the key one that does not expire.
func (e *expiring) compareAndSet(ctx context.Context, c *client, node serverpb.DKVClient) {
	v := c.unique()
	resp, err := node.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: []byte(e.key), OldValue: []byte(e.value), NewValue: []byte(v)})
	if err != nil {
		c.failed(e.key, v, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !resp.GetUpdated() {
		c.refused[pair(e.key, v)] = true
		return
	}
	c.load.updated[e.key] = written{value: v, index: resp.GetIndex(), at: c.mark()}
}
