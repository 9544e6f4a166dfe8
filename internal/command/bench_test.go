package command_test

import (
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// benchCommand has n puts of 16-byte keys and 128-byte values.
func benchCommand(n int) command.Command {
	c := command.Command{Kind: command.Write, Clock: 1_700_000_000_000}
	c.Request = kv.RequestID{Client: 1 << 63, Sequence: 1000, Acked: 999}
	for range n {
		c.Mutations = append(c.Mutations, kv.Mutation{Key: make([]byte, 16), Value: make([]byte, 128)})
	}
	return c
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 32} {
		b.Run(fmt.Sprintf("puts=%d", n), func(b *testing.B) {
			c := benchCommand(n)
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				dst = c.Append(dst[:0])
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{1, 32} {
		b.Run(fmt.Sprintf("puts=%d", n), func(b *testing.B) {
			c := benchCommand(n)
			p := c.Append(nil)
			b.ReportAllocs()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := command.Decode(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkResult(b *testing.B) {
	r := command.Result{Index: 1_000_000, Counter: 5}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = command.AppendResult(dst[:0], r)
		if _, err := command.DecodeResult(dst); err != nil {
			b.Fatal(err)
		}
	}
}
