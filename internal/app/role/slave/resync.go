package slave

import (
	"context"
	"encoding/json"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/ops"
)

// resync answers /admin/resync: it orders copies to be replaced by a master's state.
func resync(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
	var request struct {
		VBucket string `json:"vbucket"`
		Force   bool   `json:"force"`
	}
	if len(body) > 0 {
		if err := ops.Decode(body, &request); err != nil {
			return nil, &ops.Error{Status: 400, Text: `the body must be {"vbucket": "NAME", "force": false}, or empty for all that wait for it`}
		}
	}
	resp, err := s.Node.Resync(ctx, &serverpb.ResyncRequest{VBucket: request.VBucket, Force: request.Force})
	return ordersOf(resp, err)
}

// cancelResync answers /admin/cancel-resync: it withdraws such orders.
func cancelResync(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
	var request struct {
		VBucket string `json:"vbucket"`
	}
	if len(body) > 0 {
		if err := ops.Decode(body, &request); err != nil {
			return nil, &ops.Error{Status: 400, Text: `the body must be {"vbucket": "NAME"}, or empty for all that have an order`}
		}
	}
	return ordersOf(s.Node.CancelResync(ctx, &serverpb.CancelResyncRequest{VBucket: request.VBucket}))
}

// ordersOf is the document of an answer.
func ordersOf(resp *serverpb.ResyncResponse, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	type order struct {
		VBucket string `json:"vbucket"`
		What    string `json:"what"`
	}
	var orders []order
	for _, o := range resp.GetOrders() {
		orders = append(orders, order{o.GetVBucket(), o.GetWhat()})
	}
	return map[string]any{"status": "ok", "orders": orders}, nil
}
