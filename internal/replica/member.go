package replica

import (
	"encoding/json"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/timing"
)

// Member is the name of a replica's node and the addresses at which it is reached. It is
// part of the replicated state, so that every member can forward requests to every other.
type Member struct {
	Name string `json:"name"`
	// Address serves gRPC, HTTPAddress serves operators, RaftAddress serves the other
	// members' logs.
	Address     string `json:"grpc"`
	HTTPAddress string `json:"http"`
	RaftAddress string `json:"raft"`
	DC          string `json:"dc"`
	// UUID identifies the node's disk: another one in its place has another id.
	UUID string `json:"uuid"`
	// Starts counts the starts of the node's process on that disk, and Start is the random
	// id of the last one. Both are 0 in a record that another node has written.
	Starts uint64 `json:"starts,omitempty"`
	Start  uint64 `json:"start,omitempty"`
	// LogFormat is the newest log format that the node's release understands; 0 in the
	// record of a release from before there were formats.
	LogFormat uint32 `json:"logFormat,omitempty"`
	// Timing is what the node's process runs with; zero in the record of a release that
	// does not announce it.
	Timing timing.Timing `json:"timing,omitzero"`
}

func (m Member) Record() []byte {
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings only
	}
	return raw
}

func DecodeMember(record []byte) (Member, error) {
	var m Member
	if err := json.Unmarshal(record, &m); err != nil {
		return m, fmt.Errorf("member record %.128q: %w", record, err)
	}
	return m, nil
}

// Understood is the greatest format that the member's release understands.
func (m Member) Understood() uint32 { return max(m.LogFormat, command.FirstFormat) }

// Reserved reports whether the record is that of a node whose addition is under way or was
// interrupted; first says whether the node is one of the cluster's first members. Such a node has
// no vote: it gets that only after it has announced its gRPC address, which of all members only
// first ones may not have done yet.
func (m Member) Reserved(first bool) bool { return m.Address == "" && !first }
