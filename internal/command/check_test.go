package command_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// Check accepts what Decode accepts, whatever a proposer has put into a command, but for records
// and ids that are too long.
func TestCheckKnowsWhatDecodes(t *testing.T) {
	spoil := map[string]func(*rapid.T, *command.Command){
		"nothing": func(*rapid.T, *command.Command) {},
		"kind":    func(t *rapid.T, c *command.Command) { c.Kind = command.Kind(rapid.Byte().Draw(t, "other kind")) },
		"request": func(t *rapid.T, c *command.Command) {
			n := rapid.Uint64Max(3)
			c.Request = kv.RequestID{Client: n.Draw(t, "c"), Sequence: n.Draw(t, "s"), Acked: n.Draw(t, "a"), Repeat: rapid.Bool().Draw(t, "r")}
		},
		"expect": func(t *rapid.T, c *command.Command) {
			c.Expect = make([]byte, rapid.SampledFrom([]int{0, 1, 128, 129, 1 << 10, 1<<10 + 1, 16 << 10, 16<<10 + 1}).Draw(t, "length"))
		},
		"delta": func(t *rapid.T, c *command.Command) {
			c.Delta = rapid.SampledFrom([]int64{0, -1, 1, math.MaxInt64}).Draw(t, "other delta")
		},
		"clock": func(_ *rapid.T, c *command.Command) { c.Clock = 0 },
		"lease": func(t *rapid.T, c *command.Command) {
			if c.Begin != nil {
				c.Begin.Lease = time.Duration(rapid.SampledFrom([]int64{-1, int64(24 * time.Hour), int64(24*time.Hour) + 1}).Draw(t, "other lease"))
			}
		},
		"arguments": func(_ *rapid.T, c *command.Command) { c.Begin, c.Member, c.Restored = nil, nil, nil },
		"another":   func(_ *rapid.T, c *command.Command) { c.Member = &command.Member{ID: 1} },
		"pairs": func(t *rapid.T, c *command.Command) {
			c.Mutations = make([]kv.Mutation, rapid.IntRange(0, 2).Draw(t, "pairs"))
			for i := range c.Mutations {
				c.Mutations[i] = kv.Mutation{Key: key(rapid.SampledFrom([]string{"", "k"}).Draw(t, "other key")), Delete: rapid.Bool().Draw(t, "other delete")}
			}
		},
	}
	for what, spoil := range spoil {
		t.Run(what, rapid.MakeCheck(func(t *rapid.T) {
			c := drawCommand(t)
			spoil(t, &c)
			checked := c.Check()
			_, err := command.Decode(c.Append(nil))
			switch {
			case c.TooLong():
				if !errors.Is(checked, command.ErrMalformed) || err != nil {
					t.Fatalf("%+v is too long: %v; decoding it: %v", c, checked, err)
				}
			case (checked == nil) != (err == nil):
				t.Fatalf("%+v: %v; decoding it: %v", c, checked, err)
			}
		}))
	}
}

// Every put is checked before it goes into a log: that costs no memory.
func TestCheckAllocatesNothing(t *testing.T) {
	c := golden[0].c
	if n := testing.AllocsPerRun(100, func() { _ = c.Check() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
