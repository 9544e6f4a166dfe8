package discovery

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// place is a vBucket of a database.
type place struct{ database, vBucket string }

// rowKey identifies a row: what one node serves of one vBucket.
type rowKey struct {
	place
	node string
}

func keyOf(in *serverpb.RegionInfo) rowKey {
	return rowKey{place: place{in.GetDatabase(), in.GetVBucket()}, node: in.GetNodeAddress()}
}

// compare orders rows as their stored keys are ordered.
func (k rowKey) compare(other rowKey) int {
	return cmp.Or(k.place.compare(other.place), strings.Compare(k.node, other.node))
}

func (p place) compare(other place) int {
	return cmp.Or(strings.Compare(p.database, other.database), strings.Compare(p.vBucket, other.vBucket))
}

// rowPrefix begins the stored keys of all rows.
const rowPrefix = "region/"

// stored returns the row's key in the store. Each part is ended by NUL, which parts do not
// contain.
func (k rowKey) stored() []byte {
	out := make([]byte, 0, len(rowPrefix)+len(k.database)+len(k.vBucket)+len(k.node)+2)
	out = append(out, rowPrefix...)
	out = append(append(out, k.database...), 0)
	out = append(append(out, k.vBucket...), 0)
	return append(out, k.node...)
}

// decodeRow reads a stored row.
func decodeRow(key, value []byte) (*serverpb.RegionInfo, error) {
	out := new(serverpb.RegionInfo)
	if err := proto.Unmarshal(value, out); err != nil {
		return nil, kv.Errorf(kv.Corrupt, "the registry's row %q cannot be read: %w", key, err)
	}
	if !bytes.Equal(keyOf(out).stored(), key) {
		return nil, kv.Errorf(kv.Corrupt, "the registry's row %q holds the row %q", key, keyOf(out).stored())
	}
	return out, nil
}

// encodeRow is the stored form of a row, the same bytes for the same row.
func encodeRow(info *serverpb.RegionInfo) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(info)
}

// Bounds of what a row may hold, in bytes: the registry keeps all rows in memory, and
// answers a look-up with all rows of a database.
const (
	// maxName bounds the names of databases, vBuckets, data centres and nodes.
	maxName = 255
	// maxAddress is the longest name that DNS has, a colon and a port.
	maxAddress = 253 + 1 + 5
	maxID      = 64
	// maxURLs bounds the Raft addresses of a cluster's members.
	maxURLs = 2 << 10
	// maxUnknown bounds the fields of a later release.
	maxUnknown = 512
	// maxVBuckets is the greatest number of vBuckets that a database is cut into.
	maxVBuckets = 1024
)

// field is a text of a row with its bound.
type field struct {
	name, value string
	max         int
	// hint says what to send; empty if the part may be left out.
	hint string
}

func textsOf(in *serverpb.RegionInfo) [11]field {
	return [...]field{
		{"database", in.GetDatabase(), maxName, "the name of the database that the node serves"},
		{"vBucket", in.GetVBucket(), maxName, "the name of the vBucket, which is \"" + kv.DefaultVBucket + "\" if there is one only"},
		{"nodeAddress", in.GetNodeAddress(), maxAddress, "the host:port under which others reach the node"},
		{"dcID", in.GetDcID(), maxName, ""},
		{"masterHost", in.GetMasterHost(), maxAddress, ""},
		{"nexusClusterUrl", in.GetNexusClusterUrl(), maxURLs, ""},
		{"httpAddress", in.GetHttpAddress(), maxAddress, ""},
		{"nodeName", in.GetNodeName(), maxName, ""},
		{"nodeID", in.GetNodeID(), maxName, ""},
		{"clusterID", in.GetClusterID(), maxID, ""},
		{"historyID", in.GetHistoryID(), maxID, ""},
	}
}

// validate returns an error for a row that a node must not send.
func validate(in *serverpb.RegionInfo) error {
	if in == nil {
		return kv.Errorf(kv.Invalid, "the request has no regionInfo: send one for each vBucket of the node")
	}
	for _, part := range textsOf(in) {
		switch {
		case part.value == "" && part.hint != "":
			return kv.Errorf(kv.Invalid, "regionInfo.%s is empty: send %s", part.name, part.hint)
		case len(part.value) > part.max:
			return kv.Errorf(kv.Invalid, "regionInfo.%s has %d bytes, of which at most %d are allowed", part.name, len(part.value), part.max)
		case hasControl(part.value):
			return kv.Errorf(kv.Invalid, "regionInfo.%s %q contains a control character", part.name, part.value)
		}
	}
	if n := len(in.ProtoReflect().GetUnknown()); n > maxUnknown {
		return kv.Errorf(kv.Invalid, "regionInfo of node %s has %d bytes of unknown fields, of which at most %d are allowed", in.GetNodeAddress(), n, maxUnknown)
	}
	if _, known := serverpb.RegionStatus_name[int32(in.GetStatus())]; !known {
		return kv.Errorf(kv.Invalid, "regionInfo.status %d is not known", in.GetStatus())
	}
	return validateLayout(in)
}

// hasControl reports whether a text contains an ASCII control character.
func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// validateLayout returns an error for a wrong number of vBuckets, or for a vBucket that is
// not one of them.
func validateLayout(in *serverpb.RegionInfo) error {
	switch n := in.GetVBuckets(); {
	case n > maxVBuckets || n&(n-1) != 0:
		return kv.Errorf(kv.Invalid, "regionInfo.vBuckets is %d: the number of vBuckets is a power of two of at most %d", n, maxVBuckets)
	case !layoutOf(in).has(in.GetVBucket()):
		return kv.Errorf(kv.Invalid, "regionInfo.vBucket %q is not one of %v", in.GetVBucket(), layoutOf(in))
	default:
		return nil
	}
}

// textSize returns about how many bytes a row takes.
func textSize(in *serverpb.RegionInfo) int {
	n := len(in.ProtoReflect().GetUnknown())
	for _, part := range textsOf(in) {
		n += len(part.value)
	}
	return n
}

// layout is how a database is divided into vBuckets. The zero layout is an unknown one.
type layout struct {
	count uint32
	// only is the name of the vBucket if the database has only one; several are named by
	// their numbers.
	only string
}

// layoutOf returns the layout that a row states; nodes of earlier releases state none.
func layoutOf(in *serverpb.RegionInfo) layout {
	if in.GetVBuckets() == 1 {
		return layout{1, in.GetVBucket()}
	}
	return layout{count: in.GetVBuckets()}
}

func (l layout) known() bool { return l.count > 0 }

// has reports whether a vBucket may be one of the database.
func (l layout) has(vBucket string) bool {
	if l.count < 2 {
		return l.count == 0 || vBucket == l.only
	}
	n, err := strconv.ParseUint(vBucket, 10, 32)
	return err == nil && n < uint64(l.count) && strconv.FormatUint(n, 10) == vBucket
}

func (l layout) String() string {
	if l.count == 1 {
		return fmt.Sprintf("1 vBucket, %q", l.only)
	}
	return fmt.Sprintf("%d vBuckets", l.count)
}

// reportedBy returns the status that a node reports. The registry chooses the primary
// follower, not the followers.
func reportedBy(in *serverpb.RegionInfo) serverpb.RegionStatus {
	if in.GetStatus() == serverpb.RegionStatus_PRIMARY_FOLLOWER {
		return serverpb.RegionStatus_SECONDARY_FOLLOWER
	}
	return in.GetStatus()
}

// withStatus returns a row with a status: a copy, unless it has that one.
func withStatus(info *serverpb.RegionInfo, s serverpb.RegionStatus) *serverpb.RegionInfo {
	if info.GetStatus() == s {
		return info
	}
	out := proto.CloneOf(info)
	out.Status = s
	return out
}

// sameRow reports whether two rows of one key are the same apart from status, change
// number and number of slaves: the status is compared as it was reported, and the numbers
// are not worth a write.
func sameRow(a, b *serverpb.RegionInfo) bool {
	return a.GetDcID() == b.GetDcID() &&
		a.GetHttpAddress() == b.GetHttpAddress() &&
		a.GetNodeName() == b.GetNodeName() &&
		a.GetNodeID() == b.GetNodeID() &&
		a.GetClusterID() == b.GetClusterID() &&
		a.GetHistoryID() == b.GetHistoryID() &&
		a.GetTerm() == b.GetTerm() &&
		a.GetVBuckets() == b.GetVBuckets() &&
		sameOptional(a.MasterHost, b.MasterHost) &&
		sameOptional(a.NexusClusterUrl, b.NexusClusterUrl) &&
		bytes.Equal(a.ProtoReflect().GetUnknown(), b.ProtoReflect().GetUnknown())
}

func sameOptional(a, b *string) bool {
	return a == b || a != nil && b != nil && *a == *b
}
