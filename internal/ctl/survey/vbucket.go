package survey

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// VBucket is one vBucket of a node in -status.
type VBucket struct {
	Name         string `json:"vbucket"`
	State        string `json:"state"`
	IsLeader     bool   `json:"is_leader"`
	Leader       string `json:"leader"`
	Term         uint64 `json:"term"`
	CommitIndex  uint64 `json:"commit_index"`
	AppliedIndex uint64 `json:"applied_index"`
	LagChanges   uint64 `json:"lag_changes"`
	LagMillis    uint64 `json:"lag_millis"`
	WritesPaused bool   `json:"writes_paused"`
	// SnapshotBytes have arrived of a snapshot of about SnapshotSize; both are 0 without one.
	SnapshotBytes uint64 `json:"snapshot_bytes,omitempty"`
	SnapshotSize  uint64 `json:"snapshot_size,omitempty"`
	// Standing is the slaves that writes wait for; nil if they wait for none.
	Standing *standingRow `json:"standing,omitempty"`
	// Unhealthy is why a slave should not be read from, and Reason why it is not served or
	// rejects writes, which a slave always does; both are empty if all is well.
	Unhealthy string `json:"unhealthy,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// modeStream is the mode of a slave's vBuckets, which reject writes by their nature.
const modeStream = "stream"

func vBucketOf(v *serverpb.VBucketStatus) VBucket {
	row := VBucket{Name: v.GetVBucket(), State: v.GetState(), IsLeader: v.GetIsLeader(),
		Leader: v.GetLeader(), Term: v.GetTerm(), CommitIndex: v.GetCommitIndex(), AppliedIndex: v.GetAppliedIndex(),
		LagChanges: v.GetLagChanges(), LagMillis: v.GetLagMillis(), WritesPaused: v.GetWritesPaused(),
		Standing: standingOf(v.GetStanding()), SnapshotBytes: v.GetSnapshotBytes(), SnapshotSize: v.GetSnapshotSize(), Unhealthy: v.GetUnhealthy()}
	if v.GetState() != serving || v.GetMode() != modeStream {
		row.Reason = v.GetReason()
	}
	return row
}

// serving is the state of a vBucket that is well, unless a condition below holds as well.
const serving = "serving"

// The conditions of vBuckets that serve.
const (
	stale       = "stale"
	leaderless  = "without a leader"
	rejects     = "rejecting writes"
	pausedState = "paused"
)

// conditions are those of vBuckets, the worst first. Those of newer releases are between the
// states and what only writes suffer from.
var conditions = []string{"failed", "removed", "closed", stale, "restoring", "bootstrapping", "starting", "", leaderless, rejects, pausedState, serving}

// condition is a vBucket's state, or what is wrong with one that serves.
func (v *VBucket) condition() string {
	switch {
	case v.State != serving:
		return output.OrDash(v.State)
	case v.Unhealthy != "":
		return stale
	case v.Leader == "" && !v.IsLeader:
		return leaderless
	case v.WritesPaused:
		return pausedState
	case v.Reason != "":
		return rejects
	}
	return serving
}

// severity orders conditions, the worst first.
func severity(condition string) int {
	if i := slices.Index(conditions, condition); i >= 0 {
		return i
	}
	return slices.Index(conditions, "")
}

// worstFirst are a node's vBuckets, those in the worst condition first.
func (r *Row) worstFirst() []VBucket {
	return slices.SortedStableFunc(slices.Values(r.VBuckets), func(a, b VBucket) int {
		return cmp.Compare(severity(a.condition()), severity(b.condition()))
	})
}

// namedVBuckets is how many vBuckets in a condition are named on a node's line, and
// listedVBuckets how many have a line of their own below it.
const (
	namedVBuckets  = 3
	listedVBuckets = 20
)

// vBucketCells returns the cells about the conditions of vBuckets: how many of several are in
// which, or why the only one rejects writes.
func (r *Row) vBucketCells() []string {
	worst := r.worstFirst()[0]
	condition := worst.condition()
	switch {
	case condition == serving:
		return nil
	case len(r.VBuckets) > 1:
		cells := []string{r.conditionCounts()}
		if condition == rejects {
			cells = append(cells, worst.Reason)
		}
		return cells
	case condition == rejects, condition == leaderless && worst.Reason != "":
		return []string{rejects + ": " + worst.Reason}
	}
	return nil // its health and its other cells say it
}

// conditionCounts says how many of the vBuckets are in which condition, the worst first, with the
// names of some.
func (r *Row) conditionCounts() string {
	var parts []string
	rows := r.worstFirst()
	for len(rows) > 0 {
		condition := rows[0].condition()
		n := 1
		for n < len(rows) && rows[n].condition() == condition {
			n++
		}
		part := fmt.Sprintf("%d %s", n, condition)
		if condition != serving && n < len(r.VBuckets) {
			part += " (" + someNames(rows[:n]) + ")"
		}
		parts, rows = append(parts, part), rows[n:]
	}
	return "vBuckets: " + strings.Join(parts, ", ")
}

func someNames(rows []VBucket) string {
	var names []string
	for _, v := range rows[:min(len(rows), namedVBuckets)] {
		names = append(names, v.Name)
	}
	if more := len(rows) - len(names); more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	return strings.Join(names, ", ")
}

// vBucketLines are the lines of -status -v below a node with several vBuckets: one for each that is
// not well, the worst first, but not for hundreds of them.
func (r *Row) vBucketLines() [][]string {
	if len(r.VBuckets) < 2 {
		return nil
	}
	var lines [][]string
	unwell := slices.DeleteFunc(r.worstFirst(), func(v VBucket) bool { return v.condition() == serving })
	for i, v := range unwell {
		if i == listedVBuckets {
			return append(lines, []string{"", fmt.Sprintf("... and %d more: -o json has all", len(unwell)-i)})
		}
		cells := []string{"", "vBucket " + v.Name, v.condition(), "leader=" + output.OrDash(v.Leader), fmt.Sprintf("lag=%d/%dms", v.LagChanges, v.LagMillis)}
		if why := cmp.Or(v.Unhealthy, v.Reason); why != "" {
			cells = append(cells, why)
		}
		lines = append(lines, cells)
	}
	return lines
}
