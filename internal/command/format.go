package command

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrNewer means that bytes were written by a release that knows more than this one.
// A replica that meets them in its log must stop, and goes on from there when it has
// been upgraded.
var ErrNewer = errors.New("a newer release wrote this log entry: upgrade this node")

// The format of a log is what may stand in it. Members tell which formats they
// understand, the log remembers the one that was agreed on, and its owner proposes
// nothing beyond that. A change of what an existing command comes to needs a new
// format as well: until it is agreed on, every release has to apply the command as it
// always did.
const (
	// FirstFormat is what releases wrote that knew nothing of formats.
	FirstFormat uint32 = 1
	// NewestFormat is the greatest that this release understands. Format 2 has the
	// second version of the encoding, and the kinds that kinds says; format 3 has
	// SetTiming.
	NewestFormat uint32 = 3
)

// kinds are all kinds, with the format that each came with.
var kinds = [...]struct {
	name   string
	format uint32
}{
	Write:         {"write", 1},
	CompareAndSet: {"compare-and-set", 1},
	Increment:     {"increment", 1},
	Expire:        {"expire", 1},
	SetPaused:     {"set-paused", 1},
	BeginEpoch:    {"begin-epoch", 1},
	EndEpoch:      {"end-epoch", 1},
	SetMember:     {"set-member", 1},
	BeginRestore:  {"begin-restore", 1},
	StageRestore:  {"stage-restore", 1},
	EndRestore:    {"end-restore", 1},
	AbortRestore:  {"abort-restore", 1},
	SetSlave:      {"set-slave", 1},
	Tick:          {"tick", 2},
	SetClock:      {"set-clock", 2},
	SetTiming:     {"set-timing", 3},
	SealRestore:   {"seal-restore", 2},
	SetFormat:     {"set-format", 2},
}

// versionFormat is the format that the second version of the encoding came with.
const versionFormat = 2

// Kinds returns all kinds, in order.
func Kinds() []Kind {
	var out []Kind
	for k, known := range kinds {
		if known.format != 0 {
			out = append(out, Kind(k))
		}
	}
	return out
}

func (k Kind) String() string {
	if int(k) < len(kinds) && kinds[k].format != 0 {
		return kinds[k].name
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// forgotten are the kinds that Forget has taken away, by bits.
var forgotten atomic.Uint64

// known reports whether this release decodes a kind.
func (k Kind) known() bool {
	return int(k) < len(kinds) && kinds[k].format != 0 && forgotten.Load()&(1<<k) == 0
}

// Forget makes this process one of a release that does not know some kinds yet, for
// tests; recall ends that.
func Forget(ks ...Kind) (recall func()) {
	var mask uint64
	for _, k := range ks {
		mask |= 1 << k
	}
	forgotten.Or(mask)
	return func() { forgotten.And(^mask) }
}

// Format is the least format of a log in which c may stand.
func (c *Command) Format() uint32 {
	format := FirstFormat
	if int(c.Kind) < len(kinds) {
		format = max(format, kinds[c.Kind].format)
	}
	if c.further() != 0 {
		format = max(format, versionFormat)
	}
	return format
}

// checkFormat holds a decoded SetFormat to what can be a format.
func (c *Command) checkFormat() error {
	if c.Delta < int64(FirstFormat) || c.Delta > maxFormat {
		return fmt.Errorf("%w: format %d", ErrMalformed, c.Delta)
	}
	return nil
}

// maxFormat is far above any format that there will be.
const maxFormat = 1 << 20
