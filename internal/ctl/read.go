package ctl

import (
	"context"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/kv"
)

func (s *session) consistency() serverpb.ReadConsistency {
	if s.Level == kv.Sequential {
		return serverpb.ReadConsistency_SEQUENTIAL
	}
	return serverpb.ReadConsistency_LINEARIZABLE
}

func runGet(ctx context.Context, s *session, args []string) error {
	req := &serverpb.GetRequest{Key: []byte(args[0]), ReadConsistency: s.consistency()}
	var res *serverpb.GetResponse
	err := s.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		if res, err = serverpb.NewDKVClient(conn).Get(ctx, req); err != nil {
			return err
		}
		return nodes.CheckStatus(res.GetStatus())
	})
	if err != nil {
		return err
	}
	// A server of the original DKV never sets found: a value shows it.
	found := res.GetFound() || len(res.GetValue()) > 0
	switch {
	case s.out.JSON:
		err = s.out.Document(func(o *output.Object) { getDocument(o, req.Key, found, res) })
	case found:
		err = s.out.Raw(res.GetValue())
	}
	if err == nil && !found {
		return errKeyNotFound
	}
	return err
}

func getDocument(o *output.Object, key []byte, found bool, res *serverpb.GetResponse) {
	o.Bytes("key", key)
	o.Bool("found", found)
	if found {
		o.Bytes("value", res.GetValue())
		o.Expiry(res.GetExpireTS())
	}
	o.Uint("index", res.GetIndex())
	o.Uint("age_millis", res.GetAge())
}

func runMultiGet(ctx context.Context, s *session, args []string) error {
	req := &serverpb.MultiGetRequest{ReadConsistency: s.consistency()}
	for _, key := range args {
		req.Keys = append(req.Keys, []byte(key))
	}
	var res *serverpb.MultiGetResponse
	err := s.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		if res, err = serverpb.NewDKVClient(conn).MultiGet(ctx, req); err != nil {
			return err
		}
		return nodes.CheckStatus(res.GetStatus())
	})
	if err != nil {
		return err
	}
	for _, pair := range res.GetKeyValues() {
		if err := s.out.Pair(pair.GetKey(), pair.GetValue(), pair.GetExpireTS()); err != nil {
			return err
		}
	}
	return nil
}
