package survey

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/timing"
)

// NoVote marks a member that does not count for a majority.
const NoVote = "no vote"

// Print prints rows: a line each, and more of what they know if verbose is set.
func Print(out *output.Printer, rows []Row, verbose bool) error {
	live := countAlive(rows)
	if out.JSON {
		return out.Value(struct {
			Alive int   `json:"alive"`
			Total int   `json:"total"`
			Nodes []Row `json:"nodes"`
		}{live, len(rows), rows})
	}
	var cells [][]string
	for _, r := range rows {
		if !verbose {
			cells = append(cells, r.columns())
			continue
		}
		cells = append(cells, slices.Concat(r.columns(), r.version(), r.memory(), r.timing(), r.standing(), r.record()))
		cells = append(cells, r.vBucketLines()...)
	}
	if err := output.WriteColumns(out.W, cells); err != nil {
		return err
	}
	if note := unfinished(rows); note != "" {
		if err := out.Line(note); err != nil {
			return err
		}
	}
	// It is the last line for scripts of the earlier system's tool, too.
	return out.Line(fmt.Sprintf("%d alive, %d total", live, len(rows)))
}

// version returns the cell of a verbose row for the version that its cluster uses.
func (r Row) version() []string {
	if r.ClusterVersion == 0 {
		return nil
	}
	return []string{fmt.Sprintf("cluster-version=%d", r.ClusterVersion)}
}

// memory returns the cells of a verbose row for what its storage engines hold in memory; none
// for a node that does not say.
func (r Row) memory() []string {
	if r.MemtableBytes == 0 && r.CacheBytes == 0 {
		return nil
	}
	return []string{"memtables=" + memorySize(r.MemtableBytes), "cache=" + memorySize(r.CacheBytes)}
}

// memorySize writes a number of bytes as one word.
func memorySize(n uint64) string { return fmt.Sprintf("%.1fMiB", float64(n)/(1<<20)) }

// unfinished says that an upgrade is in progress; "" if none is.
func unfinished(rows []Row) string {
	if u := VersionsOf(rows); u.Cluster != 0 && u.Cluster < u.Target {
		return fmt.Sprintf("cluster-version %d is being upgraded to %d: dkvctl -upgrade", u.Cluster, u.Target)
	}
	return ""
}

// timing returns the cells of a verbose row: the timing that the node runs with, and the
// one that the cluster has recorded.
func (r Row) timing() []string {
	if r.Timing == "" {
		return nil
	}
	cells := []string{"timing=" + TimingName(r.Timing)}
	switch {
	case r.Recorded == "":
		return append(cells, "cluster=-")
	case r.Next != "":
		return append(cells, "cluster="+TimingName(r.Recorded), "changing to "+TimingName(r.Next))
	}
	return append(cells, "cluster="+TimingName(r.Recorded))
}

// columns returns a row's cells. Indexes are those of the only vBucket, or sums over
// several; the lag is the largest.
func (r Row) columns() []string {
	cells := []string{output.OrDash(r.ID), r.Address, output.OrDash(r.Role), r.Health}
	if len(r.VBuckets) == 0 || r.VBuckets[0].State == "" {
		if len(r.VBuckets) > 0 && r.VBuckets[0].IsLeader {
			cells = append(cells, "leader=self")
		}
		if r.URL != "" && r.URL != r.Address {
			cells = append(cells, r.URL)
		}
		return append(cells, r.remarks()...)
	}
	var total VBucket
	leads := 0
	for _, v := range r.VBuckets {
		total.CommitIndex += v.CommitIndex
		total.AppliedIndex += v.AppliedIndex
		total.Term = max(total.Term, v.Term)
		total.LagChanges = max(total.LagChanges, v.LagChanges)
		total.LagMillis = max(total.LagMillis, v.LagMillis)
		total.SnapshotBytes += v.SnapshotBytes
		total.SnapshotSize += v.SnapshotSize
		total.WritesPaused = total.WritesPaused || v.WritesPaused
		if v.IsLeader {
			leads++
		}
	}
	leader := output.OrDash(r.VBuckets[0].Leader)
	switch {
	case len(r.VBuckets) > 1:
		leader = fmt.Sprintf("self for %d of %d vBuckets", leads, len(r.VBuckets))
	case leads == 1:
		leader = "self"
	}
	cells = append(cells, "leader="+leader, fmt.Sprintf("term=%d", total.Term),
		fmt.Sprintf("commit=%d", total.CommitIndex), fmt.Sprintf("applied=%d", total.AppliedIndex),
		fmt.Sprintf("lag=%d/%dms", total.LagChanges, total.LagMillis))
	if total.SnapshotSize > 0 {
		cells = append(cells, fmt.Sprintf("receives a snapshot: %s of about %s", output.Mebibytes(total.SnapshotBytes), output.Mebibytes(total.SnapshotSize)))
	}
	if total.WritesPaused {
		cells = append(cells, "writes paused")
	}
	cells = append(cells, r.vBucketCells()...)
	return append(cells, r.remarks()...)
}

// remarks returns the cells that only some rows have.
func (r Row) remarks() []string {
	var cells []string
	if r.Became != "" && !strings.Contains(r.Reason, r.Became) {
		cells = append(cells, r.Became)
	}
	if r.Fault != "" {
		cells = append(cells, r.Fault)
	}
	for _, t := range r.Tasks {
		cells = append(cells, t.text())
	}
	if r.Degraded != "" {
		cells = append(cells, r.Degraded)
	}
	if r.NonVoting {
		cells = append(cells, NoVote)
	}
	if r.Reason != "" {
		cells = append(cells, r.Reason)
	}
	return cells
}

// TimingName returns a timing's name, or its values if it has none.
func TimingName(text string) string {
	t, err := timing.Parse(text)
	if err != nil {
		return text // of a newer release
	}
	return t.String()
}
