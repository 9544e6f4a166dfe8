package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// errNotUpdated is the result of -cas if the key holds another value.
var errNotUpdated = errors.New("not updated: the key does not hold the old value")

// expireTS is when a key written now expires: in epoch seconds, rounded up, so
// that it lives at least as long as -ttl says; 0 means never.
func (s *session) expireTS() uint64 {
	if s.TTL == 0 {
		return 0
	}
	return uint64(time.Now().Add(s.TTL).Add(time.Second - time.Nanosecond).Unix())
}

func runSet(ctx context.Context, s *session, args []string) error {
	value, err := s.setValue(ctx, args)
	if err != nil {
		return err
	}
	req := &serverpb.PutRequest{Key: []byte(args[0]), Value: value, ExpireTS: s.expireTS()}
	var res *serverpb.PutResponse
	err = s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		if res, err = serverpb.NewDKVClient(conn).Put(ctx, req); err != nil {
			return err
		}
		return nodes.CheckStatus(res.GetStatus())
	})
	if err != nil {
		return err
	}
	return s.out.OK(res.GetIndex())
}

// setValue is the value of -set: an argument or standard input.
func (s *session) setValue(ctx context.Context, args []string) ([]byte, error) {
	if !s.FromStdin {
		return []byte(args[1]), nil
	}
	var value []byte
	read := make(chan error, 1)
	go func() { // a read of a terminal or a pipe ends with its input alone
		all, err := io.ReadAll(io.LimitReader(s.stdin, nodes.MaxMessage+1))
		value = all
		read <- err
	}()
	var err error
	select {
	case err = <-read:
	case <-ctx.Done():
		return nil, errors.New("interrupted while standard input was read: nothing was written")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the value from standard input: %w", err)
	}
	if len(value) > nodes.MaxMessage {
		return nil, fmt.Errorf("the value on standard input is longer than %d bytes", nodes.MaxMessage)
	}
	return value, nil
}

func runDelete(ctx context.Context, s *session, args []string) error {
	var res *serverpb.DeleteResponse
	err := s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		if res, err = serverpb.NewDKVClient(conn).Delete(ctx, &serverpb.DeleteRequest{Key: []byte(args[0])}); err != nil {
			return err
		}
		return nodes.CheckStatus(res.GetStatus())
	})
	if err != nil {
		return err
	}
	return s.out.OK(res.GetIndex())
}

func runMultiSet(ctx context.Context, s *session, args []string) error {
	if len(args)%2 != 0 {
		return options.Usagef("-mset takes KEY VALUE pairs: %q has no value", args[len(args)-1])
	}
	req := &serverpb.MultiPutRequest{MaySplit: s.MaySplit}
	for i := 0; i < len(args); i += 2 {
		req.PutRequest = append(req.PutRequest,
			&serverpb.PutRequest{Key: []byte(args[i]), Value: []byte(args[i+1]), ExpireTS: s.expireTS()})
	}
	var res *serverpb.PutResponse
	err := s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		if res, err = serverpb.NewDKVClient(conn).MultiPut(ctx, req); err != nil {
			return err
		}
		return nodes.CheckStatus(res.GetStatus())
	})
	if err != nil {
		return err
	}
	return s.out.OK(res.GetIndex())
}

func runCompareAndSet(ctx context.Context, s *session, args []string) error {
	req := &serverpb.CompareAndSetRequest{Key: []byte(args[0]), OldValue: []byte(args[1]), NewValue: []byte(args[2]),
		ExpireTS: s.expireTS()}
	var res *serverpb.CompareAndSetResponse
	err := s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		if res, err = serverpb.NewDKVClient(conn).CompareAndSet(ctx, req); err != nil {
			return err
		}
		return nodes.CheckStatus(res.GetStatus())
	})
	if err != nil {
		return err
	}
	if s.out.JSON {
		err = s.out.Document(func(o *output.Object) {
			o.Bool("updated", res.GetUpdated())
			o.Uint("index", res.GetIndex())
		})
	} else if res.GetUpdated() {
		err = s.out.OK(res.GetIndex())
	}
	if err == nil && !res.GetUpdated() {
		return errNotUpdated
	}
	return err
}

func runIncrement(ctx context.Context, s *session, args []string) error {
	req := &serverpb.IncrementRequest{Key: []byte(args[0]), Delta: 1, ExpireTS: s.expireTS()}
	if len(args) == 2 {
		delta, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return options.Usagef("-incr: %q is not a whole number of 64 bits", args[1])
		}
		req.Delta = delta
	}
	var res *serverpb.IncrementResponse
	err := s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		if res, err = serverpb.NewDKVClient(conn).Increment(ctx, req); err != nil {
			return err
		}
		return nodes.CheckStatus(res.GetStatus())
	})
	if err != nil {
		return err
	}
	if !s.out.JSON {
		return s.out.Line(strconv.FormatInt(res.GetValue(), 10))
	}
	return s.out.Document(func(o *output.Object) {
		o.Int("value", res.GetValue())
		o.Uint("index", res.GetIndex())
	})
}
