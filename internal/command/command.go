// Package command defines what a vBucket's log carries: commands, the results
// of applying them, and their versioned, deterministic encoding. Every replica
// decodes the same bytes into the same command for ever; a layout is never
// changed, only a new version added.
package command

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/dkvdb/dkv/internal/kv"
)

// Kind tells what a command does. The numbers are stored in logs: never reuse
// one.
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
	// Expire removes those of Mutations whose key still has the ExpireTS given
	// there, if the log's clock has reached it.
	Expire Kind = 4
	// SetPaused refuses (Flag) or admits (not Flag) mutations from here on.
	SetPaused Kind = 5
	// BeginEpoch makes its proposer the owner of the log: Begin. It is accepted
	// in a higher term than the present epoch's, or again from the same owner.
	BeginEpoch Kind = 6
	// EndEpoch ends the epoch that Fence names.
	EndEpoch Kind = 7
	// SetMember keeps or forgets how a replica is reached: Member.
	SetMember Kind = 8
	// BeginRestore refuses mutations from here on, until the restore ends, and
	// drops what another one has staged. A new epoch aborts a restore.
	BeginRestore Kind = 9
	// StageRestore lays Mutations aside for the end of the restore.
	StageRestore Kind = 10
	// EndRestore makes what was staged the keyspace, under a new history:
	// Restored.
	EndRestore Kind = 11
	// AbortRestore drops what was staged and admits mutations again.
	AbortRestore Kind = 12
	// SetSlave puts a slave on the list of them (Flag) or takes it off (not
	// Flag): Expect, as Slave.Append writes it.
	SetSlave Kind = 13
	// Tick has no effect but to move the log's clock. It is applied while
	// mutations are refused, too.
	Tick Kind = 14
	// SetClock sets the log's clock to Clock, which may lie behind it, and begins
	// the present epoch again under a new id: what its owner proposed by the clock
	// that there was is fenced.
	SetClock Kind = 15
	// SetTiming sets the timing that the cluster's members agree on to Expect, if the
	// setting was last changed at index Delta; 0 if there was none.
	SetTiming Kind = 16
	// SealRestore says that all of a restore is staged. Every member builds the
	// state that EndRestore makes the present one from there on.
	SealRestore Kind = 17
	// SetFormat raises the log's format to Delta; see Format. Every member understands
	// it by then.
	SetFormat Kind = 18
)

// MovesClock reports whether applying a command of the kind moves the log's clock
// to the command's: only what depends on the time does. How a cluster is made up
// and led must not be able to expire keys.
func (k Kind) MovesClock() bool { return k >= Write && k <= Expire || k == Tick }

// Fenced reports whether a command of this kind is its proposer's as the owner of the
// log, and has no effect in another epoch than Fence.
func (k Kind) Fenced() bool { return k != BeginEpoch && k != SetMember }

// Command is one entry of the log. Which fields count depends on Kind.
type Command struct {
	Kind Kind
	// Clock is the proposer's. The log's clock is the greatest of those of the
	// commands that move it, and what SetClock last set.
	Clock kv.Clock
	// Request makes a retry return the first result; zero for none.
	Request kv.RequestID
	// Mutations are the keys concerned, in order.
	Mutations []kv.Mutation
	// Expect is the value that CompareAndSet wants to find, the id of a restore in
	// its commands, the slave of SetSlave, and the record of SetTiming.
	Expect []byte
	// Delta is what Increment adds, the format of SetFormat, and the index of SetTiming.
	Delta int64
	// Flag is the argument of SetPaused and SetSlave.
	Flag bool
	// Fence is the epoch that the proposer owns: the command has no effect in
	// any other. A log that never changes hands has epoch 0. BeginEpoch and
	// SetMember are not fenced.
	Fence kv.Index
	// Begin, Member and Restored are the arguments of BeginEpoch, SetMember and
	// EndRestore.
	Begin    *Begin
	Member   *Member
	Restored *Restored
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

// Fingerprint tells commands apart that ask for different things. It leaves out
// who asks and when, so that a retry has the first attempt's. It is stored.
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

// Code is the outcome of an applied command. Everything but OK means that the
// command changed nothing; after TooLate and StaleRequest an earlier attempt may have.
type Code uint8

const (
	// OK means that the command did what it says.
	OK Code = 0
	// NotUpdated means that CompareAndSet found another value, or SetTiming another
	// setting.
	NotUpdated Code = 1
	// NotACounter means that Increment found a value that is not 8 bytes long.
	NotACounter Code = 2
	// Overflow means that Increment would leave the range of int64.
	Overflow Code = 3
	// Paused means that mutations are refused at present.
	Paused Code = 4
	// StaleRequest means that the client itself said that it has the answer
	// of this request: a late duplicate, which must not be applied again.
	StaleRequest Code = 5
	// Fenced means that the log is another owner's by now, or that a BeginEpoch
	// came too late.
	Fenced Code = 6
	// RequestMismatch means that the client has used the request's id for
	// another one before.
	RequestMismatch Code = 7
	// Restoring means that mutations are refused because the keyspace is being
	// replaced.
	Restoring Code = 8
	// NotStaged means that no restore is under way, or another number of pairs
	// is staged than was to be.
	NotStaged Code = 9
	// TooLate means that it cannot be told whether the request was applied
	// before: its result, if there was one, is not remembered any more.
	TooLate Code = 10
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
	default:
		return fmt.Sprintf("Code(%d)", uint8(c))
	}
}

// Result is what applying a command returns: a value, never an error, since it
// is the same on every replica.
type Result struct {
	// Index is the log index at which the command took effect. For a repeated
	// request it is the first one's.
	Index kv.Index
	Code  Code
	// Counter is the value after an Increment.
	Counter int64
	// Previous is the epoch that an accepted BeginEpoch replaced, and the
	// present one that a refused one met. It is not remembered.
	Previous *Epoch
}
