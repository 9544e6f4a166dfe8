package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/audit"
	"github.com/dkvdb/dkv/internal/kv"
)

// beginAudit enters a call in the audit log, if it is administrative, before it does
// anything. An error means that the call must not be made.
func (c *calls) beginAudit(ctx context.Context, m *method, req any) (*audit.Entry, error) {
	if !m.audited {
		return nil, nil
	}
	e, err := c.opts.Audit.Begin(audit.Call{Caller: audit.CallerOf(ctx), Address: peerOf(ctx), Op: m.op, What: brief(req)})
	if err != nil {
		c.limited(limitAudit)
		return nil, kv.Errorf(kv.Unavailable, "%s: %w", m.op, err)
	}
	return e, nil
}

// endAudit writes the line of a call's result, if the call is administrative or was
// rejected because of who made it. entry is nil if the call has not begun.
func (c *calls) endAudit(ctx context.Context, m *method, entry *audit.Entry, req any, code codes.Code, err error) {
	switch {
	case entry != nil:
		entry.End(code.String(), errText(err))
	case code == codes.Unauthenticated || code == codes.PermissionDenied:
		what := keyPrefix(req)
		if m.audited && req != nil {
			what = brief(req)
		}
		c.opts.Audit.Refused(audit.Call{Caller: audit.CallerOf(ctx), Address: peerOf(ctx), Op: m.op, What: what}, code.String(), errText(err))
	case m.audited:
		// Mostly no request arrived. Such calls cost a client nothing and could flood the log.
		c.slow.warn("administrative call that was not made", "op", m.op, "peer", peerOf(ctx), "code", code.String(), "error", errText(err))
	}
}

// keyPrefix describes the key that a request is about, or the first of them, by its first
// bytes; "" if it has none.
func keyPrefix(req any) string {
	key, has := access.FirstKey(req)
	if !has {
		return ""
	}
	if len(key) > loggedKey {
		return fmt.Sprintf("%q...", key[:loggedKey])
	}
	return fmt.Sprintf("%q", key)
}
