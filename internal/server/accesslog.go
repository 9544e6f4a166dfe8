package server

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/internal/accesslog"
	"github.com/dkvdb/dkv/internal/audit"
)

// logAccess adds the line of a call to the access log. Health checks have none: a node has
// more of them than anyone reads. A call for a request of another server has the line of that.
func (c *calls) logAccess(ctx context.Context, m *method, begin time.Time, took time.Duration, req, response any, code codes.Code) {
	if c.opts.AccessLog == nil || m.probe {
		return
	}
	who := audit.CallerOf(ctx)
	n := accesslog.Line{
		Begun: begin, Took: took, Op: m.op, Code: code.String(),
		Peer: peerOf(ctx), Principal: who.Name, Via: who.Via,
		Key: keyPrefix(req), RequestBytes: size(req), ResponseBytes: size(response), Stream: m.streaming,
	}
	if n.Principal == "" {
		n.Principal = who.Kind
	}
	if c.opts.Describe != nil && req != nil {
		c.opts.Describe(req, &n)
	}
	if outer := accesslog.FromContext(ctx); outer != nil {
		outer.Key, outer.VBucket, outer.RequestID, outer.ReadLevel, outer.AckLevel = n.Key, n.VBucket, n.RequestID, n.ReadLevel, n.AckLevel
		return
	}
	c.opts.AccessLog.Add(n)
}
