// Package command defines the entries of a vBucket's log: the commands, the results of
// applying them, and the encoding of both. Package fsm says what applying a command does.
//
// A write travels like this: the node that owns the log makes a Command of a client's
// request, Append encodes it, the log (Raft, or a node's own) carries the bytes to every
// replica, Decode makes the same Command of them there, and applying it yields the same
// Result everywhere.
//
// The rules that make this work:
//
//   - Numbers and layouts never change. A log is replayed by later releases, and the
//     replicas of one log may run different releases. Something new gets a new kind, flag or
//     version, and a log format that says which releases understand it (Command.Format).
//   - A command has exactly one encoding, and Decode rejects every other one. Replicas can
//     be compared byte by byte, and the fuzz tests rely on it.
//   - A command carries everything that its effect depends on: the proposer's clock, the
//     client's request id, the epoch that it was proposed in (its fence). Applying it reads
//     no clock and no configuration.
//   - A replica that cannot decode an entry stops (ErrMalformed, ErrNewer). Skipping the
//     entry would make its state differ from the others' without anyone noticing. So nothing is
//     proposed that Decode rejects: Command.Check.
package command

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/dkvdb/dkv/internal/kv"
)

// Kind is what a command does. The numbers are stored in logs: one is never reused.
type Kind uint8

const (
	// Write puts and deletes keys, all or none: Mutations.
	Write Kind = 1
	// CompareAndSet puts Mutations[0] if its key holds Expect. An empty Expect
	// matches an absent, expired or empty key.
	CompareAndSet Kind = 2
	// Increment adds Delta to the counter at Mutations[0].Key and sets its
	// ExpireTS, unless that is 0, which keeps the expiry.
	Increment Kind = 3
	// Expire removes the keys of Mutations that still have the ExpireTS given there, if
	// the log's clock has reached it.
	Expire Kind = 4
	// SetPaused rejects (Flag) or admits (not Flag) mutations from here on.
	SetPaused Kind = 5
	// BeginEpoch makes its proposer the owner of the log: Begin. It is accepted in a
	// higher term than the current epoch's, or again from the same owner.
	BeginEpoch Kind = 6
	// EndEpoch ends the epoch that Fence names.
	EndEpoch Kind = 7
	// SetMember records or removes how a replica is reached: Member.
	SetMember Kind = 8
	// BeginRestore rejects mutations until the restore ends, and drops what an earlier
	// restore has staged. A new epoch aborts a restore.
	BeginRestore Kind = 9
	// StageRestore stages Mutations: EndRestore makes them visible.
	StageRestore Kind = 10
	// EndRestore replaces the keyspace with the staged pairs, under a new history:
	// Restored.
	EndRestore Kind = 11
	// AbortRestore drops what was staged and admits mutations again.
	AbortRestore Kind = 12
	// SetSlave adds a slave to the list of slaves (Flag) or removes it (not Flag):
	// Expect, as Slave.Append writes it.
	SetSlave Kind = 13
	// Tick moves the log's clock and does nothing else. It is applied while mutations are
	// rejected, too.
	Tick Kind = 14
	// SetClock sets the log's clock to Clock, which may be earlier, and begins the
	// current epoch again under a new id, so that what its owner proposed by the clock
	// before is fenced.
	SetClock Kind = 15
	// SetTiming sets the timing that the cluster's members agree on to Expect, if it was
	// last changed at index Delta (0: never).
	SetTiming Kind = 16
	// SealRestore says that a restore is fully staged. From there on every member builds
	// the state that EndRestore will switch to.
	SealRestore Kind = 17
	// SetFormat raises the log's format to Delta, which every member understands;
	// see Format.
	SetFormat Kind = 18
	// SetStandbys sets the record of the nodes that the log's owner waits for to Expect, if
	// it was last changed at index Delta (0: never).
	SetStandbys Kind = 19
	// Seal ends the log's part in a database that is being promoted elsewhere: Expect is
	// the promotion's id. Until Unseal no epoch begins and no fenced command has an effect.
	// A restore that is in progress rejects it.
	Seal Kind = 20
	// Unseal ends the seal of the promotion Expect, and has no effect on another one's. It
	// is proposed when no epoch can begin, so it is not fenced.
	Unseal Kind = 21
)

// ChangesKeys reports whether commands of the kind write or remove keys. All others concern
// the log or the cluster and leave the keyspace as it is, but for EndRestore, which
// replaces it as a whole.
func (k Kind) ChangesKeys() bool { return k >= Write && k <= Expire }

// TakesMutations reports whether commands of the kind have Mutations.
func (k Kind) TakesMutations() bool { return k.ChangesKeys() || k == StageRestore }

// TakesRequest reports whether commands of the kind may carry a request id: those that a
// client asks for.
func (k Kind) TakesRequest() bool { return k.ChangesKeys() || k == SetPaused }

// MovesClock reports whether applying a command of the kind moves the log's clock to the
// command's. Only commands whose effect depends on the time do: a change of members or of
// the owner must not be able to expire keys.
func (k Kind) MovesClock() bool { return k.ChangesKeys() || k == Tick }

// Fenced reports whether only the owner of the log may propose commands of the kind: they
// have no effect in another epoch than Fence.
func (k Kind) Fenced() bool { return k != BeginEpoch && k != SetMember && k != Unseal }

// Command is one entry of the log. Kind says which of the other fields are used.
type Command struct {
	Kind Kind
	// Clock is the proposer's. The log's clock is the greatest of those of the
	// commands that move it, and what SetClock last set.
	Clock kv.Clock
	// Request identifies the client's request, so that a retry returns the first result.
	// Zero means that there is none.
	Request kv.RequestID
	// Mutations are the keys concerned, in order.
	Mutations []kv.Mutation
	// Expect is the value that CompareAndSet compares with, the id of the restore in
	// commands of one, the slave of SetSlave, the record of SetTiming and SetStandbys, and
	// the promotion of Seal and Unseal.
	Expect []byte
	// Delta is what Increment adds, the format of SetFormat and the index of SetTiming and
	// SetStandbys.
	Delta int64
	// Flag is the argument of SetPaused and SetSlave.
	Flag bool
	// Fence is the epoch that the proposer owns: the command has no effect in any other.
	// A log that has one owner for ever (a standalone node's) has epoch 0. See
	// Kind.Fenced.
	Fence kv.Index
	// Begin, Member and Restored are the arguments of BeginEpoch, SetMember and
	// EndRestore.
	Begin    *Begin
	Member   *Member
	Restored *Restored
	// Ack is the level that the client asks for. It concerns the answer only and is not
	// encoded.
	Ack kv.Ack
}

// Size estimates the bytes that the command adds to the log and to storage.
func (c *Command) Size() int {
	n := 32 + len(c.Expect)
	for i := range c.Mutations {
		n += 16 + len(c.Mutations[i].Key) + len(c.Mutations[i].Value)
	}
	if c.Member != nil {
		n += len(c.Member.Record)
	}
	return n
}

// Fingerprint is a hash of what the command asks for. It leaves out who asks and when, so
// that a retry has the fingerprint of the first attempt. It is stored, so it never changes.
func (c *Command) Fingerprint() uint64 {
	var d xxhash.Digest
	d.Reset()
	var n [8]byte
	number := func(v uint64) {
		binary.LittleEndian.PutUint64(n[:], v)
		_, _ = d.Write(n[:])
	}
	text := func(p []byte) {
		number(uint64(len(p)))
		_, _ = d.Write(p)
	}
	number(uint64(c.Kind))
	text(c.Expect)
	number(uint64(c.Delta))
	for i := range c.Mutations {
		m := &c.Mutations[i]
		text(m.Key)
		number(m.ExpireTS)
		if m.Delete {
			number(1)
			continue
		}
		number(0)
		text(m.Value)
	}
	return d.Sum64()
}

// Code is the outcome of an applied command. Every code but OK means that the command
// changed nothing; after TooLate and StaleRequest an earlier attempt may have.
type Code uint8

const (
	// OK means that the command did what it says.
	OK Code = 0
	// NotUpdated means that CompareAndSet found another value, or SetTiming or SetStandbys
	// another record.
	NotUpdated Code = 1
	// NotACounter means that Increment found a value that is not 8 bytes long.
	NotACounter Code = 2
	// Overflow means that Increment would leave the range of int64.
	Overflow Code = 3
	// Paused means that mutations are rejected until the operator resumes them.
	Paused Code = 4
	// StaleRequest means that the client has acknowledged the answer to this request
	// before: it is a late duplicate, which must not be applied again.
	StaleRequest Code = 5
	// Fenced means that another node owns the log by now, or that a BeginEpoch came too
	// late.
	Fenced Code = 6
	// RequestMismatch means that the client has used the request's id for another request
	// before.
	RequestMismatch Code = 7
	// Restoring means that mutations are rejected because a restore is replacing the
	// keyspace.
	Restoring Code = 8
	// NotStaged means that no restore with this id is in progress, or that the number of
	// staged pairs is not the expected one.
	NotStaged Code = 9
	// TooLate means that it is unknown whether the request was applied before: its
	// result, if there was one, is no longer remembered.
	TooLate Code = 10
	// Sealed means that the log takes no part in the database while that is being promoted
	// elsewhere.
	Sealed Code = 11
)

func (c Code) String() string {
	switch c {
	case OK:
		return "ok"
	case NotUpdated:
		return "not updated"
	case NotACounter:
		return "not a counter"
	case Overflow:
		return "overflow"
	case Paused:
		return "paused"
	case StaleRequest:
		return "stale request"
	case Fenced:
		return "fenced"
	case RequestMismatch:
		return "request mismatch"
	case Restoring:
		return "restoring"
	case NotStaged:
		return "not staged"
	case TooLate:
		return "too late"
	case Sealed:
		return "sealed"
	default:
		return fmt.Sprintf("Code(%d)", uint8(c))
	}
}

// Result is what applying a command returns. It is a value and never an error, because it
// is the same on every replica.
type Result struct {
	// Index is the log index at which the command took effect. For a repeated
	// request it is the first one's.
	Index kv.Index
	Code  Code
	// Counter is the value after an Increment.
	Counter int64
	// Previous is the epoch that an accepted BeginEpoch replaced, or the current one that
	// a rejected BeginEpoch met. It is not stored with the result.
	Previous *Epoch
	// History is what Index belongs to, and Acked the level that the answer has reached. The
	// log's owner sets them for the commands of clients; they are not stored either.
	History string
	Acked   kv.Ack
}
