package dkv

import (
	"fmt"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Ack says which nodes must have a mutation before it is acknowledged, beyond a majority of
// the masters. As an option of a mutation, or of a client with WithAck, it raises what the
// masters ask for (repl-ack) and never lowers it. If no slave stands by, such a mutation is
// ErrUnavailable and was not applied. If the slave does not confirm it in time, it is
// ErrUnavailable and ErrOutcomeUnknown: it is applied, and a promotion may undo it.
type Ack uint8

const (
	// AckDefault is what the masters ask for.
	AckDefault Ack = Ack(serverpb.AckLevel_ACK_DEFAULT)
	// AckAsync waits for no slave.
	AckAsync Ack = Ack(serverpb.AckLevel_ACK_ASYNC)
	// AckSemiSync waits until the slave that stands by has received the mutation.
	AckSemiSync Ack = Ack(serverpb.AckLevel_ACK_SEMI_SYNC)
	// AckSync waits until that slave has the mutation on disk.
	AckSync Ack = Ack(serverpb.AckLevel_ACK_SYNC)
	// AckAll waits until every master and every slave has applied the mutation too, so that
	// all sequential reads show it; nodes that were silent (repl-ack-timeout) are left out
	// until they are back.
	AckAll Ack = Ack(serverpb.AckLevel_ACK_ALL)
)

func (a Ack) String() string {
	switch a {
	case AckDefault:
		return "default"
	case AckAsync:
		return "async"
	case AckSemiSync:
		return "semi_sync"
	case AckSync:
		return "sync"
	case AckAll:
		return "all"
	default:
		return fmt.Sprintf("Ack(%d)", uint8(a))
	}
}

func (a Ack) applyWrite(o writeOptions) writeOptions {
	o.ack = a
	return o
}

// WithAck is the Ack of all mutations of a client, also of those without options. A mutation's
// own may be higher.
func WithAck(level Ack) Option { return func(o *options) { o.ack = level } }

func (c *Client) ackOf(o writeOptions) serverpb.AckLevel {
	return serverpb.AckLevel(max(c.opts.ack, o.ack))
}

// Answer is what the answer to a mutation says of it. A pointer to one is an option: it is set
// if the mutation succeeds.
type Answer struct {
	// History is the id of the history that the index of the mutation belongs to; empty if
	// the server does not say.
	History string
	// Acked is the level that was reached; AckDefault if the server does not say.
	Acked Ack
}

func (a *Answer) applyWrite(o writeOptions) writeOptions {
	o.answer = a
	return o
}

// fill sets the answer that the caller wants to see.
func (o writeOptions) fill(resp interface {
	GetHistory() string
	GetAcked() serverpb.AckLevel
}, err error) {
	if o.answer != nil && err == nil {
		*o.answer = Answer{History: resp.GetHistory(), Acked: Ack(resp.GetAcked())}
	}
}
