package command

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrNewer means that bytes were written by a newer release and cannot be read by this one.
// A replica that finds them in its log must stop, and continues from there after an
// upgrade.
var ErrNewer = errors.New("a newer release wrote this log entry: upgrade this node")

// The format of a log says which commands it may contain. Members announce the newest
// format that they understand, and the log records the one in use (SetFormat): its owner
// proposes nothing beyond that. An operator raises it once all members understand the new
// one. So a cluster can be upgraded one node at a time, and downgraded until then. Operators
// know the format as the cluster's version. A change of an existing command's effect needs a new format as well:
// until that is agreed on, every release has to apply the command as before.
const (
	// FirstFormat is the format of releases that did not know formats.
	FirstFormat uint32 = 1
	// NewestFormat is the newest one that this release has; see Newest. Format 2 has the
	// second version of the encoding, and the kinds that the table below gives it; format 3
	// has SetTiming; format 4 has SetStandbys, Seal, Unseal and the origin of an epoch; format 5
	// has change records of several changes.
	NewestFormat uint32 = 5
)

// kinds are the names of all kinds, and the format that each was added with.
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
	SetStandbys:   {"set-standbys", 4},
	Seal:          {"seal", 4},
	Unseal:        {"unseal", 4},
}

// versionFormat is the format that the second version of the encoding was added with,
// originFormat the one of Begin.Origin.
const (
	versionFormat = 2
	originFormat  = 4
)

// Kinds returns all kinds in the order of their numbers.
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

// forgotten has a bit for each kind that Forget has disabled.
var forgotten atomic.Uint64

// known reports whether this release decodes commands of the kind.
func (k Kind) known() bool {
	return int(k) < len(kinds) && kinds[k].format != 0 && forgotten.Load()&(1<<k) == 0
}

// Forget makes this process behave like an older release that does not know some kinds,
// for tests. The returned function ends that.
func Forget(ks ...Kind) (recall func()) {
	var mask uint64
	for _, k := range ks {
		mask |= 1 << k
	}
	forgotten.Or(mask)
	return func() { forgotten.And(^mask) }
}

// Format returns the oldest log format that allows c.
func (c *Command) Format() uint32 {
	format := FirstFormat
	if int(c.Kind) < len(kinds) {
		format = max(format, kinds[c.Kind].format)
	}
	if c.further() != 0 {
		format = max(format, versionFormat)
	}
	if c.Begin != nil && c.Begin.Origin != nil {
		format = max(format, originFormat)
	}
	return format
}
