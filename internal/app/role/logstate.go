package role

import "github.com/dkvdb/dkv/internal/replica"

// LogState is what a node knows of a vBucket's log, in the document of /admin/raft/state.
type LogState struct {
	Name     string `json:"vbucket"`
	Mode     string `json:"mode"`
	State    string `json:"state"`
	IsLeader bool   `json:"is_leader"`
	Leader   uint64 `json:"leader_id"`
	Term     uint64 `json:"term"`
	Commit   uint64 `json:"commit_index"`
	Applied  uint64 `json:"applied_index"`
	// FirstChange is the oldest change that is retained.
	FirstChange uint64 `json:"first_change"`
}

// LogStateOf returns what the status of a replica says of its log.
func LogStateOf(name string, s *replica.Status) LogState {
	return LogState{
		Name: name, Mode: string(s.Mode), State: string(s.State), IsLeader: s.IsLeader, Leader: s.Owner.ID, Term: s.Term,
		Commit: s.Commit, Applied: s.Applied, FirstChange: s.ChangelogFloor,
	}
}
