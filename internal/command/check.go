package command

import (
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/kv"
)

// What bounds the records of SetTiming and SetStandbys, and the id of a promotion, in bytes.
const (
	MaxTiming    = 1 << 10
	MaxStandbys  = 16 << 10
	MaxPromotion = 128
)

// maxFormat is far above any format that there will ever be.
const maxFormat = 1 << 20

// Check returns an error if c must not be put into a log: Decode would reject its encoding, which
// would stop every member for good, or it is TooLong. It is called before any command is proposed, whatever
// the command's kind. It costs a look at each key.
func (c *Command) Check() error {
	switch {
	case c.Kind == 0 || int(c.Kind) >= len(kinds) || kinds[c.Kind].format == 0:
		return fmt.Errorf("%w: kind %d", ErrMalformed, uint8(c.Kind))
	case !c.Request.IsZero() && c.Request.Acked >= c.Request.Sequence:
		return fmt.Errorf("%w: request that acknowledges itself", ErrMalformed)
	case c.Begin != nil && c.Begin.Stated && (c.Begin.Lease < 0 || c.Begin.Lease > maxLease):
		return fmt.Errorf("%w: lease of %v", ErrMalformed, c.Begin.Lease)
	}
	for i := range c.Mutations {
		if len(c.Mutations[i].Key) == 0 {
			return fmt.Errorf("%w: empty key", ErrMalformed)
		}
	}
	if c.TooLong() {
		return fmt.Errorf("%w: %v of %d bytes", ErrMalformed, c.Kind, len(c.Expect))
	}
	return c.check()
}

// TooLong reports whether the command's record, or its id of a promotion, is too long. Releases that
// did not check what they propose may have put such a command into a log, and no member has applied
// it: those releases do not decode it. It has no effect, so that the log goes on.
func (c *Command) TooLong() bool {
	switch c.Kind {
	case SetTiming:
		return len(c.Expect) > MaxTiming
	case SetStandbys:
		return len(c.Expect) > MaxStandbys
	case Seal, Unseal:
		return len(c.Expect) > MaxPromotion
	default:
		return false
	}
}

// check verifies that a command has what its kind needs and nothing else, so that applying it
// cannot fail.
func (c *Command) check() error {
	single := c.Kind == CompareAndSet || c.Kind == Increment
	if single && (len(c.Mutations) != 1 || c.Mutations[0].Delete) {
		return fmt.Errorf("%w: %v needs exactly one put", ErrMalformed, c.Kind)
	}
	if !c.Kind.TakesMutations() && len(c.Mutations) != 0 {
		return fmt.Errorf("%w: %v takes no mutations", ErrMalformed, c.Kind)
	}
	if c.Kind == StageRestore && slices.ContainsFunc(c.Mutations, func(m kv.Mutation) bool { return m.Delete }) {
		return fmt.Errorf("%w: %v of a delete", ErrMalformed, c.Kind)
	}
	if (c.Kind == BeginEpoch) != (c.Begin != nil) || (c.Kind == SetMember) != (c.Member != nil) ||
		(c.Kind == EndRestore) != (c.Restored != nil) {
		return fmt.Errorf("%w: %v with another kind's argument", ErrMalformed, c.Kind)
	}
	if !c.Kind.TakesRequest() && !c.Request.IsZero() {
		return fmt.Errorf("%w: %v takes no request id", ErrMalformed, c.Kind)
	}
	return c.checkArgument()
}

// checkArgument is check of what is particular to one kind.
func (c *Command) checkArgument() error {
	switch c.Kind {
	case SetSlave:
		_, err := ParseSlave(c.Expect)
		return err
	case SetTiming, SetStandbys:
		if len(c.Expect) == 0 || c.Delta < 0 {
			return fmt.Errorf("%w: %v of %d bytes, over index %d", ErrMalformed, c.Kind, len(c.Expect), c.Delta)
		}
	case Seal, Unseal:
		if len(c.Expect) == 0 {
			return fmt.Errorf("%w: %v of no promotion", ErrMalformed, c.Kind)
		}
	case SetFormat:
		if c.Delta < int64(FirstFormat) || c.Delta > maxFormat {
			return fmt.Errorf("%w: format %d", ErrMalformed, c.Delta)
		}
	case SetClock:
		if c.Clock == 0 {
			return fmt.Errorf("%w: %v to no time", ErrMalformed, c.Kind)
		}
	}
	return nil
}
