package discovery

import (
	"bytes"
	"cmp"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// place is a vBucket of a database.
type place struct{ database, vBucket string }

// rowKey names a row: what one node has of one vBucket.
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

// stored is the row's key in the store. The parts hold no NUL, so that it ends
// each of them.
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
		return nil, kv.Errorf(kv.Corrupt, "the registry's row %q names itself %q", key, keyOf(out).stored())
	}
	return out, nil
}

// encodeRow is the stored form of a row, the same bytes for the same row.
func encodeRow(info *serverpb.RegionInfo) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(info)
}

const (
	// maxName bounds the parts of a row's key, in bytes.
	maxName = 512
	// maxRow bounds the texts of a row, in bytes: the registry holds all of them in
	// memory.
	maxRow = 16 << 10
)

// validate says what is wrong with a row that a node sends.
func validate(in *serverpb.RegionInfo) error {
	if in == nil {
		return kv.Errorf(kv.Invalid, "the request has no regionInfo: send one for each vBucket of the node")
	}
	for _, part := range [...]struct{ name, value, hint string }{
		{"database", in.GetDatabase(), "the name of the database that the node serves"},
		{"vBucket", in.GetVBucket(), "the name of the vBucket, which is \"" + kv.DefaultVBucket + "\" where there is one only"},
		{"nodeAddress", in.GetNodeAddress(), "the host:port under which others reach the node"},
	} {
		switch {
		case part.value == "":
			return kv.Errorf(kv.Invalid, "regionInfo.%s is empty: send %s", part.name, part.hint)
		case len(part.value) > maxName:
			return kv.Errorf(kv.Invalid, "regionInfo.%s has %d bytes, of which at most %d are allowed", part.name, len(part.value), maxName)
		case strings.IndexByte(part.value, 0) >= 0:
			return kv.Errorf(kv.Invalid, "regionInfo.%s %q contains a zero byte: send %s", part.name, part.value, part.hint)
		}
	}
	if _, known := serverpb.RegionStatus_name[int32(in.GetStatus())]; !known {
		return kv.Errorf(kv.Invalid, "regionInfo.status %d is not known", in.GetStatus())
	}
	if n := textSize(in); n > maxRow {
		return kv.Errorf(kv.Invalid, "regionInfo of node %s has %d bytes, of which at most %d are allowed", in.GetNodeAddress(), n, maxRow)
	}
	return nil
}

// textSize is about what a row takes: all that has no bound of its own.
func textSize(in *serverpb.RegionInfo) int {
	return len(in.GetDcID()) + len(in.GetNodeAddress()) + len(in.GetDatabase()) + len(in.GetVBucket()) +
		len(in.GetMasterHost()) + len(in.GetNexusClusterUrl()) + len(in.GetHttpAddress()) + len(in.GetNodeName()) +
		len(in.GetNodeID()) + len(in.GetClusterID()) + len(in.GetHistoryID()) + len(in.ProtoReflect().GetUnknown())
}

// reportedBy is the status that a node gives itself. Which follower is the primary
// one is not for the followers to say.
func reportedBy(in *serverpb.RegionInfo) serverpb.RegionStatus {
	if in.GetStatus() == serverpb.RegionStatus_PRIMARY_FOLLOWER {
		return serverpb.RegionStatus_SECONDARY_FOLLOWER
	}
	return in.GetStatus()
}

// withStatus is a copy of a row with another status.
func withStatus(info *serverpb.RegionInfo, s serverpb.RegionStatus) *serverpb.RegionInfo {
	out := proto.CloneOf(info)
	out.Status = s
	return out
}

// sameRow tells whether two rows of one key say the same, their status, change
// number and number of slaves apart: the status is compared as it was reported,
// and the numbers are not worth a write.
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
