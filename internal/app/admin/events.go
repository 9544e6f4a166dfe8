package admin

import (
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/telemetry"
)

// AuditMessage is the message of the lines of the audit log.
const AuditMessage = "audit"

// events are the last events of the node's log that a query wants, the newest first.
func (a *Admin) events(q ops.EventQuery) any {
	recent := telemetry.RecentOf(a.Node.Log)
	if recent == nil {
		return []telemetry.Event{}
	}
	wanted := telemetry.Wanted{Level: q.Level, VBucket: q.VBucket, Limit: q.Limit}
	if q.Audit {
		wanted.Message = AuditMessage
	}
	return recent.Events(wanted)
}
