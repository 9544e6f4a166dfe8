package replicatest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
)

// WallClock is a node's clock that follows a wall clock, wherever that jumps.
func WallClock(wall func() time.Time) *clock.Clock {
	return clock.New(clock.Options{Wall: wall, MaxJump: 100 * 365 * 24 * time.Hour})
}

// Put is a command that sets a key.
func Put(key, value string) *command.Command {
	return &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: []byte(key), Value: []byte(value)}}}
}

// Del is a command that deletes a key.
func Del(key string) *command.Command {
	return &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: []byte(key), Delete: true}}}
}

// PutUntil is a command that sets a key which expires.
func PutUntil(key, value string, at time.Time) *command.Command {
	c := Put(key, value)
	c.Mutations[0].ExpireTS = uint64(at.Unix())
	return c
}

// Client sends requests to a replica, and fails the test if they fail.
type Client struct {
	t *testing.T
	r replica.Replica
}

// NewClient returns a client of r.
func NewClient(t *testing.T, r replica.Replica) Client { return Client{t: t, r: r} }

// MustPut sets a key and returns the index.
func (c Client) MustPut(key, value string) kv.Index {
	c.t.Helper()
	return c.MustPropose(Put(key, value)).Index
}

// MustPropose proposes a command and returns its result.
func (c Client) MustPropose(cmd *command.Command) command.Result {
	c.t.Helper()
	res, err := c.r.Propose(context.Background(), cmd)
	if err != nil || res.Code != command.OK {
		c.t.Fatalf("propose %v: %v, %v", cmd.Kind, res, err)
	}
	return res
}

// Value returns the value at key, "" if there is none.
func (c Client) Value(key string) string {
	c.t.Helper()
	p, _, _, err := c.r.Get(context.Background(), []byte(key), kv.ReadOptions{})
	if err != nil {
		c.t.Fatal("get:", err)
	}
	return string(p.Value)
}

// WantValue checks what is at key.
func (c Client) WantValue(key, want string) {
	c.t.Helper()
	if got := c.Value(key); got != want {
		c.t.Errorf("%s is %q, want %q", key, got, want)
	}
}

// Keys lists a view's keys.
func Keys(t *testing.T, v replica.View) []string {
	t.Helper()
	it := v.Iterate(storage.Range{})
	defer it.Close()
	out := []string{}
	for it.Next() {
		out = append(out, string(it.Pair().Key))
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// WantError checks an error's kind and outcome.
func WantError(t *testing.T, err error, kind kv.Kind, outcome kv.Outcome) {
	t.Helper()
	var known *kv.Error
	if !errors.As(err, &known) {
		t.Fatalf("error %v is no kv.Error", err)
	}
	if known.Kind != kind || known.Outcome != outcome {
		t.Errorf("error %q has kind %d (%v), want %d (%v)", err, known.Kind, known.Outcome, kind, outcome)
	}
}
