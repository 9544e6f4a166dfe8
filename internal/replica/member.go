package replica

import (
	"encoding/json"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/timing"
)

// Member is how a replica's node is reached and what it is called. It stands in
// the replicated state, so that every member can forward to every other.
type Member struct {
	Name string `json:"name"`
	// Address serves gRPC, HTTPAddress operators, RaftAddress the log.
	Address     string `json:"grpc"`
	HTTPAddress string `json:"http"`
	RaftAddress string `json:"raft"`
	DC          string `json:"dc"`
	// UUID tells the node's disk from one that takes its place.
	UUID string `json:"uuid"`
	// Starts counts the starts of the node's process on that disk, and Start is the
	// random id of the last one. Both are 0 in a record that the node has not written
	// itself.
	Starts uint64 `json:"starts,omitempty"`
	Start  uint64 `json:"start,omitempty"`
	// LogFormat is the greatest format of the log that the node's release understands;
	// 0 in the record of one that knows nothing of formats.
	LogFormat uint32 `json:"logFormat,omitempty"`
	// Timing is what the node's process runs with; zero in the record of a release that
	// does not tell.
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

// understood is the greatest format that the member's release understands.
func (m Member) Understood() uint32 { return max(m.LogFormat, command.FirstFormat) }
