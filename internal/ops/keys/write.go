package keys

import (
	"context"
	"net/http"
	"strings"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// change is the body of a write. Encoding is how Key, Value and Old are written.
type change struct {
	Key      string `json:"key"`
	Value    string `json:"value"`
	Old      string `json:"old"`
	Encoding string `json:"encoding"`
	// Expires is in epoch seconds; 0 is never.
	Expires uint64 `json:"expires"`
	// Ack is which nodes must have the change before the answer, if more than the node asks for.
	Ack string `json:"ack"`

	key, value, old []byte
	ack             serverpb.AckLevel
	service         serverpb.DKVServer
}

// Written is the answer to a write.
type Written struct {
	// Updated is false if a compare-and-set found another value.
	Updated bool   `json:"updated"`
	VBucket string `json:"vbucket"`
	Index   uint64 `json:"index"`
	History string `json:"history,omitempty"`
	// Acked is the level that was reached: async, semi_sync, sync or all.
	Acked string `json:"acked"`
}

// read reads a change.
func (s *Service) read(r *http.Request) (*change, error) {
	c := new(change)
	if err := readBody(r, c); err != nil {
		return nil, err
	}
	var err error
	for _, f := range []struct {
		name, text string
		into       *[]byte
	}{{"key", c.Key, &c.key}, {"value", c.Value, &c.value}, {"old", c.Old, &c.old}} {
		if *f.into, err = decode(c.Encoding, f.name, f.text); err != nil {
			return nil, err
		}
	}
	c.ack = serverpb.AckLevel(serverpb.AckLevel_value["ACK_"+strings.ToUpper(c.Ack)])
	if c.Ack != "" && c.ack == serverpb.AckLevel_ACK_DEFAULT {
		return nil, kv.Errorf(kv.Invalid, "ack is async, semi_sync, sync or all, not %.40q", c.Ack)
	}
	c.service, err = s.options.KV()
	return c, err
}

// written is the answer to a change that was made.
func (s *Service) written(c *change, updated bool, index uint64, history string, acked serverpb.AckLevel) *Written {
	if acked == serverpb.AckLevel_ACK_DEFAULT {
		acked = serverpb.AckLevel_ACK_ASYNC
	}
	return &Written{Updated: updated, VBucket: s.options.VBucket(c.key), Index: index, History: history, Acked: strings.ToLower(strings.TrimPrefix(acked.String(), "ACK_"))}
}

func (s *Service) put(r *http.Request) (any, error) {
	c, err := s.read(r)
	if err != nil {
		return nil, err
	}
	request := &serverpb.PutRequest{Key: c.key, Value: c.value, ExpireTS: c.Expires, Ack: c.ack}
	answer, err := allowed(r.Context(), s, PutPath, request, c.service.Put)
	if err != nil {
		return nil, err
	}
	return s.written(c, true, answer.GetIndex(), answer.GetHistory(), answer.GetAcked()), nil
}

func (s *Service) cas(r *http.Request) (any, error) {
	c, err := s.read(r)
	if err != nil {
		return nil, err
	}
	request := &serverpb.CompareAndSetRequest{Key: c.key, OldValue: c.old, NewValue: c.value, ExpireTS: c.Expires, Ack: c.ack}
	answer, err := allowed(r.Context(), s, CASPath, request, c.service.CompareAndSet)
	if err != nil {
		return nil, err
	}
	return s.written(c, answer.GetUpdated(), answer.GetIndex(), answer.GetHistory(), answer.GetAcked()), nil
}

func (s *Service) remove(r *http.Request) (any, error) {
	c, err := s.read(r)
	if err != nil {
		return nil, err
	}
	request := &serverpb.DeleteRequest{Key: c.key, Ack: c.ack}
	answer, err := allowed(r.Context(), s, DeletePath, request, c.service.Delete)
	if err != nil {
		return nil, err
	}
	return s.written(c, true, answer.GetIndex(), answer.GetHistory(), answer.GetAcked()), nil
}

// allowed makes a call if the caller may.
func allowed[Request, Answer any](ctx context.Context, s *Service, path string, request *Request, call func(context.Context, *Request) (*Answer, error)) (*Answer, error) {
	if err := s.options.Allow(ctx, path, request); err != nil {
		return nil, err
	}
	answer, err := call(ctx, request)
	return answer, outcome(err)
}
