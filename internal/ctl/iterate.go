package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

func runIterate(ctx context.Context, s *session, args []string) error {
	return s.iterate(ctx, args, false)
}
func runKeys(ctx context.Context, s *session, args []string) error { return s.iterate(ctx, args, true) }

func (s *session) iterate(ctx context.Context, args []string, keysOnly bool) error {
	req := &serverpb.IterateRequest{
		KeyPrefix:       prefixOf(args[0]),
		ReadConsistency: s.consistency(),
		Limit:           s.Limit,
		Reverse:         s.Reverse,
		KeysOnly:        keysOnly,
		Batched:         true,
	}
	if len(args) == 2 {
		req.StartKey = []byte(args[1])
	}
	return s.CallStream(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, arrived func() func()) error {
		stream, err := serverpb.NewDKVClient(conn).Iterate(ctx, req)
		if err != nil {
			return err
		}
		return s.printPairs(stream, keysOnly, arrived)
	})
}

// prefixOf returns the prefix that was typed, without a star at its end: a lone star,
// like an empty pattern, means all keys.
func prefixOf(pattern string) []byte {
	return []byte(strings.TrimSuffix(pattern, "*"))
}

// printPairs prints a stream's pairs: batches or, from a server that does not know
// batches, one pair a message.
func (s *session) printPairs(stream grpc.ServerStreamingClient[serverpb.IterateResponse], keysOnly bool, arrived func() func()) error {
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := nodes.CheckStatus(res.GetStatus()); err != nil {
			return err
		}
		done := arrived()
		pairs := res.GetPairs()
		if len(res.GetKey()) > 0 {
			pairs = append(pairs, &serverpb.KVPair{Key: res.GetKey(), Value: res.GetValue(), ExpireTS: res.GetExpireTS()})
		}
		for _, pair := range pairs {
			if err := s.printPair(pair, keysOnly); err != nil {
				return nodes.Local(fmt.Errorf("cannot write the result: %w", err))
			}
		}
		done()
	}
}

func (s *session) printPair(pair *serverpb.KVPair, keysOnly bool) error {
	if !keysOnly {
		return s.out.Pair(pair.GetKey(), pair.GetValue(), pair.GetExpireTS())
	}
	if !s.out.JSON {
		return s.out.Raw(pair.GetKey())
	}
	return s.out.Document(func(o *output.Object) {
		o.Bytes("key", pair.GetKey())
		o.Expiry(pair.GetExpireTS())
	})
}
