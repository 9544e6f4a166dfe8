package keys

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// Bounds of a page of keys.
const (
	pageSize, maxPage = 50, 500
	// preview is how much of a value a page shows.
	preview = 96
	// maxRead bounds what is read for a page, keys and values.
	maxRead = 64 << 20
)

// Page is a part of the keys with a prefix.
type Page struct {
	Keys []Listed `json:"keys"`
	// Next is the first key of the next page; absent at the end.
	Next []byte `json:"next,omitempty"`
}

// Listed is a key of a page.
type Listed struct {
	Key     []byte `json:"key"`
	VBucket string `json:"vbucket"`
	Size    int    `json:"size"`
	Expires uint64 `json:"expires"`
	// Preview is how the value begins.
	Preview []byte `json:"preview"`
}

func (s *Service) list(r *http.Request) (any, error) {
	query := r.URL.Query()
	prefix, err := decode(query.Get("encoding"), "prefix", query.Get("prefix"))
	if err != nil {
		return nil, err
	}
	start, err := decode(query.Get("encoding"), "start", query.Get("start"))
	if err != nil {
		return nil, err
	}
	limit, err := number(query.Get("limit"), "limit", pageSize, maxPage)
	if err != nil {
		return nil, err
	}
	level, err := levelOf(query.Get("level"))
	if err != nil {
		return nil, err
	}
	service, err := s.options.KV()
	if err != nil {
		return nil, err
	}
	request := &serverpb.IterateRequest{KeyPrefix: prefix, StartKey: start, Limit: uint64(limit) + 1, ReadConsistency: level, Batched: true}
	if err := s.options.Allow(r.Context(), ListPath, request); err != nil {
		return nil, err
	}
	p := &pager{ctx: r.Context(), service: s, limit: limit, page: Page{Keys: []Listed{}}}
	if err := service.Iterate(request, p); err != nil && !p.full {
		return nil, err
	}
	return &p.page, nil
}

// errEnough ends an iteration whose page is full, as a client does that wants no more of it.
var errEnough = fmt.Errorf("the page is full: %w", context.Canceled)

// pager takes the pairs of an iteration. It keeps no values.
type pager struct {
	grpc.ServerStream
	ctx     context.Context
	service *Service
	limit   int
	read    int
	page    Page
	full    bool // it has ended the iteration
}

// Context implements grpc.ServerStream.
func (p *pager) Context() context.Context { return p.ctx }

// Send implements grpc.ServerStreamingServer.
func (p *pager) Send(m *serverpb.IterateResponse) error {
	pairs := m.GetPairs()
	if len(pairs) == 0 && len(m.GetKey()) > 0 {
		pairs = []*serverpb.KVPair{{Key: m.GetKey(), Value: m.GetValue(), ExpireTS: m.GetExpireTS()}}
	}
	for _, pair := range pairs {
		if err := p.add(pair); err != nil {
			return err
		}
	}
	return nil
}

// SendMsg implements grpc.ServerStream.
func (p *pager) SendMsg(m any) error {
	if answer, is := m.(*serverpb.IterateResponse); is {
		return p.Send(answer)
	}
	return kv.Errorf(kv.Internal, "an iteration answered with %T", m)
}

func (p *pager) add(pair *serverpb.KVPair) error {
	if len(p.page.Keys) >= p.limit { // the request was for one more, with which it ends
		if p.page.Next == nil {
			p.page.Next = bytes.Clone(pair.GetKey())
		}
		return nil
	}
	if p.read += len(pair.GetKey()) + len(pair.GetValue()); p.read > maxRead && len(p.page.Keys) > 0 {
		p.page.Next, p.full = bytes.Clone(pair.GetKey()), true
		return errEnough
	}
	value := pair.GetValue()
	p.page.Keys = append(p.page.Keys, Listed{
		Key: bytes.Clone(pair.GetKey()), VBucket: p.service.options.VBucket(pair.GetKey()), Size: len(value), Expires: pair.GetExpireTS(),
		Preview: append([]byte{}, value[:min(len(value), preview)]...),
	})
	return nil
}
