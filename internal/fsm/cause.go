package fsm

import (
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// requestFormat is the log's format from which on change records have the requests that caused
// them: a member of an older release could not read such a record in a snapshot.
const requestFormat = 4

// cause returns the request of a change that c has made, or nil if it has no id or may not be
// recorded. It is valid until the next call. A log without epochs is a standalone node's, which
// no other node's release reads.
func (m *Machine) cause(c *command.Command, res command.Result) *kv.ChangeRequest {
	if c.Request.IsZero() || m.state.Epoch.ID != 0 && m.Format() < requestFormat {
		return nil
	}
	id := c.Request
	id.Repeat = false
	m.scratch.cause = kv.ChangeRequest{ID: id, Fingerprint: c.Fingerprint(), Code: uint8(res.Code), Counter: res.Counter}
	return &m.scratch.cause
}

// remember adds the request of a change that is replicated to those that are answered with
// their first results. Requests without an effect are not among them: a repeat of such a
// request is a new one.
func (tx *tx) remember(c *kv.Change) {
	if c.Request == nil {
		return
	}
	res := command.Result{Index: c.Index, Code: command.Code(c.Request.Code), Counter: c.Request.Counter}
	tx.m.requests.AddResult(tx.batch, c.Request.ID, c.Request.Fingerprint, res, tx.m.state.Clock)
}
