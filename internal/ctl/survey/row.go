package survey

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// Alive is the health of a node that serves.
const Alive = "ALIVE"

// The health of a node that is not well, of one that does not answer, of one that does not
// accept the caller, and of one that cannot serve yet.
const (
	unhealthy   = "UNHEALTHY"
	unreachable = "UNREACHABLE"
	rejecting   = "REJECTED" // it does not accept the caller
	waiting     = "WAITING"  // to become a member of a cluster
)

// Row is one node in -status, and its JSON.
type Row struct {
	ID        string    `json:"id"`
	Name      string    `json:"name,omitempty"`
	Address   string    `json:"address"`
	URL       string    `json:"url,omitempty"` // where it speaks Raft; members only
	Role      string    `json:"role"`
	Health    string    `json:"health"` // ALIVE, or one of the others above or a state
	NonVoting bool      `json:"non_voting,omitempty"`
	Cluster   string    `json:"cluster_id,omitempty"`
	Version   string    `json:"version,omitempty"`
	VBuckets  []VBucket `json:"vbuckets,omitempty"`
	Timing    string    `json:"timing,omitempty"`         // that its process runs with
	Recorded  string    `json:"cluster_timing,omitempty"` // what its log has recorded
	Next      string    `json:"next_timing,omitempty"`    // and what that is being changed to
	Became    string    `json:"became,omitempty"`         // what a promotion has made of it
	Record    string    `json:"record,omitempty"`         // what the registry's record means for it
	// ClusterVersion is the version that its cluster uses, and Understands the newest one
	// that it could; both are 0 if the node does not say.
	ClusterVersion uint32 `json:"cluster_version,omitempty"`
	Understands    uint32 `json:"understands,omitempty"`
	// MemtableBytes and CacheBytes are what its storage engines hold in memory.
	MemtableBytes uint64 `json:"memtable_bytes,omitempty"`
	CacheBytes    uint64 `json:"cache_bytes,omitempty"`
	// Tasks are what it does at this moment that takes a while.
	Tasks  []taskRow `json:"tasks,omitempty"`
	Fault  string    `json:"fault,omitempty"`  // what a drill does to it
	Reason string    `json:"reason,omitempty"` // why it is not ALIVE
	// Degraded is what is wrong with it although it is.
	Degraded string `json:"warning,omitempty"`
	// self is the address that it says it serves at.
	self string
}

// Ask returns the row of the node that client names, as the one at an address.
func Ask(ctx context.Context, client *nodes.Client, addr string) Row {
	res, err := client.NodeStatus(ctx)
	var re *nodes.RequestError
	var down *nodes.UnreachableError
	switch {
	case err == nil:
		return rowOf(addr, res)
	case errors.As(err, &down):
		return Row{Address: addr, Health: unreachable, Reason: output.OneLine(down.Why())}
	case errors.As(err, &re) && re.Waiting != "":
		return Row{Address: addr, Health: waiting, Reason: output.OneLine(re.Waiting)}
	case errors.As(err, &re) && re.Code == codes.Unimplemented:
		return Row{Address: addr, Health: Alive, Reason: "it answers, but not with a status"}
	case errors.As(err, &re) && (re.Code == codes.Unauthenticated || re.Code == codes.PermissionDenied):
		return Row{Address: addr, Health: rejecting, Reason: output.OneLine(err.Error())}
	default:
		return Row{Address: addr, Health: unreachable, Reason: output.OneLine(err.Error())}
	}
}

func rowOf(addr string, res *serverpb.NodeStatusResponse) Row {
	row := Row{ID: res.GetNodeId(), Name: res.GetNodeName(), Address: addr, self: res.GetAddress(), Role: res.GetRole(),
		Health: Alive, Cluster: res.GetClusterId(), Version: res.GetVersion(),
		Timing: res.GetTiming(), Recorded: res.GetClusterTiming(), Next: res.GetNextTiming(), Became: res.GetBecame(), Record: res.GetRecord(),
		ClusterVersion: res.GetClusterVersion(), Understands: res.GetUnderstands(), Fault: res.GetFault(), Degraded: res.GetWarning(),
		MemtableBytes: res.GetMemtableBytes(), CacheBytes: res.GetCacheBytes(), Tasks: tasksOf(res)}
	for _, v := range res.GetVBuckets() {
		row.VBuckets = append(row.VBuckets, vBucketOf(v))
	}
	if len(row.VBuckets) == 0 {
		return row
	}
	switch worst := row.worstFirst()[0]; {
	case worst.State != serving:
		row.Health, row.Reason = strings.ToUpper(output.OrDash(worst.State)), cmp.Or(worst.Unhealthy, worst.Reason)
	case worst.Unhealthy != "":
		row.Health, row.Reason = unhealthy, worst.Unhealthy
	}
	return row
}

// Warning says why a node that serves rejects writes, as while its disk is full, or serves a vBucket in another
// way than it should; "" if it does not, or does not say.
func (r *Row) Warning() string {
	if len(r.VBuckets) == 0 {
		return ""
	}
	switch worst := r.worstFirst()[0]; {
	case worst.Reason == "":
		return ""
	case worst.State == serving:
		return "it serves reads, but rejects writes: " + worst.Reason
	default:
		return "it serves reads, but vBucket " + worst.Name + " is " + worst.condition() + ": " + worst.Reason
	}
}
