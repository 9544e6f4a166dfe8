package ops

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Status is the health of a node.
type Status string

// The states of a node: all well; serving, but something needs attention; not
// serving as it should.
const (
	Healthy   Status = "healthy"
	Degraded  Status = "degraded"
	Unhealthy Status = "unhealthy"
)

// Health is the document of GET /health.
type Health struct {
	Status Status `json:"status"`
	// Reasons say why the node is not healthy, a sentence each.
	Reasons  []string `json:"reasons"`
	NodeID   string   `json:"node_id"`
	NodeName string   `json:"node_name"`
	Version  string   `json:"version"`
	Role     string   `json:"role"`
	// UptimeSeconds counts from the start of the process.
	UptimeSeconds float64   `json:"uptime_seconds"`
	VBuckets      []VBucket `json:"vbuckets"`
	Disk          Disk      `json:"disk"`
	// ClusterVersion is the version that the node's cluster uses, 0 without a Raft log, and
	// Understands the newest one that the node's release understands. They differ while an
	// upgrade is not finished.
	ClusterVersion uint32 `json:"cluster_version,omitempty"`
	Understands    uint32 `json:"understands,omitempty"`
	// Insecure is what other hosts may do without authentication: data, or true for
	// everything. It is no reason not to be healthy.
	Insecure string `json:"insecure,omitempty"`
	// Tasks are what the node does at this moment that takes a while, the oldest first.
	Tasks []Task `json:"tasks,omitempty"`
}

// Task is how far a node is with a call that takes a while.
type Task struct {
	// Kind is backup, restore, verify, join, removal, leaders or snapshot; Subject is what it is
	// about, and Step what is done now.
	Kind    string `json:"kind"`
	Subject string `json:"subject,omitempty"`
	Step    string `json:"step"`
	// Part is the vBucket that it is at, counted from 1, of Parts.
	Part  int `json:"part,omitempty"`
	Parts int `json:"parts,omitempty"`
	// Done of about Total are done of the step, counted in Unit: B, keys or vBuckets. Total is
	// 0 if it is not known.
	Done  uint64 `json:"done"`
	Total uint64 `json:"total"`
	Unit  string `json:"unit,omitempty"`
	// Seconds is the time since the task began, StepSeconds since the step did.
	Seconds     float64 `json:"seconds"`
	StepSeconds float64 `json:"step_seconds"`
}

// VBucket is the state of one vBucket on the node.
type VBucket struct {
	Database string `json:"database"`
	Name     string `json:"vbucket"`
	// Mode is how the vBucket's log is kept: standalone, raft or slave.
	Mode string `json:"mode"`
	// State is what the vBucket is doing, such as serving or bootstrapping.
	State    string `json:"state"`
	IsLeader bool   `json:"is_leader"`
	// Leader is the address of the node that takes writes, "" if unknown.
	Leader string `json:"leader"`
	Term   uint64 `json:"term"`
	// CommitIndex is the last index that is known to be committed, as of LagSeconds ago.
	CommitIndex  uint64 `json:"commit_index"`
	AppliedIndex uint64 `json:"applied_index"`
	// LagChanges is by how many changes (on masters: entries of the log) the vBucket is
	// known to be behind. LagSeconds is its age: how long ago it was last known to be the
	// newest state; on a slave 86400 if it has not been since the start.
	LagChanges uint64  `json:"lag_changes"`
	LagSeconds float64 `json:"lag_seconds"`
	Peers      []Peer  `json:"peers"`
	// WritesPaused reports whether an operator has paused writes. WritesRejected is why writes
	// are rejected, on other nodes than slaves, which always reject them. Reasons are why the
	// vBucket is not healthy, a sentence each.
	WritesPaused   bool     `json:"writes_paused,omitempty"`
	WritesRejected string   `json:"writes_rejected,omitempty"`
	Reasons        []string `json:"reasons,omitempty"`
}

// Peer is another member of a vBucket's cluster, as this node sees it.
type Peer struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Healthy bool   `json:"healthy"`
}

// Disk is the file system that the node's data is on; all zero for a node
// without one. Sizes are bytes.
type Disk struct {
	FreeBytes  uint64 `json:"free_bytes"`
	TotalBytes uint64 `json:"total_bytes"`
	// ReserveBytes is the free space below which writes are refused.
	ReserveBytes uint64 `json:"reserve_bytes"`
}

// Check is one condition for a node to be live or ready.
type Check struct {
	// Name is shown by ?verbose, such as "engine".
	Name string
	// Probe returns nil if the condition holds, or why it does not. It honours the
	// context's deadline.
	Probe func(context.Context) error
}

// checkTimeout bounds a round of checks: probers give up after about as long.
const checkTimeout = 5 * time.Second

// quick answers load balancers with the least work.
func (s *Server) quick(w http.ResponseWriter, _ *http.Request) error {
	if !s.options.Serving() {
		return &Error{Status: http.StatusServiceUnavailable, Text: "this node is not serving"}
	}
	return writeText(w, http.StatusOK, "ok\n")
}

// health answers with the whole document; a degraded node still serves.
func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	h := s.options.Health(r.Context())
	status := http.StatusOK
	if h.Status == Unhealthy {
		status = http.StatusServiceUnavailable
	}
	return s.writeDocument(w, r, status, h)
}

// MarshalJSON writes empty lists as [], not null.
func (h Health) MarshalJSON() ([]byte, error) {
	type plain Health
	h.Reasons = orEmpty(h.Reasons)
	h.VBuckets = append([]VBucket{}, h.VBuckets...)
	for i := range h.VBuckets {
		h.VBuckets[i].Peers = orEmpty(h.VBuckets[i].Peers)
	}
	return json.Marshal(plain(h))
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// checks answers a prober as Kubernetes' own components do: "ok", or a line for each check
// with ?verbose or if one fails.
func (s *Server) checks(name string, checks []Check) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		defer cancel()
		lines, passed := "", true
		for _, c := range checks {
			if err := c.Probe(ctx); err != nil {
				lines += "[-]" + c.Name + " failed: " + oneLine(err.Error()) + "\n"
				passed = false
			} else {
				lines += "[+]" + c.Name + " ok\n"
			}
		}
		switch {
		case !passed:
			return writeText(w, http.StatusServiceUnavailable, lines+name+" check failed\n")
		case r.URL.Query().Has("verbose"):
			return writeText(w, http.StatusOK, lines+name+" check passed\n")
		default:
			return writeText(w, http.StatusOK, "ok\n")
		}
	}
}
