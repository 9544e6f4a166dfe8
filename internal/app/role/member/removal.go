package member

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft"
)

// isRemoved reports whether the cluster has removed this node from all its vBuckets, which
// is for good: it can come back only as another member, with an empty folder.
func (m *Member) isRemoved() bool {
	return len(m.rafts) > 0 && !slices.ContainsFunc(m.rafts, func(r *raft.Replica) bool { return r.State() != replica.Removed })
}

// noteRemoval records that the node was removed, once it is from all vBuckets. When it is
// started again, it says so and does not ask the members for ever.
func (m *Member) noteRemoval() {
	if !m.isRemoved() {
		return
	}
	if err := m.identity.NoteRemoved(time.Now()); err != nil {
		m.node.Log.Warn("that this node was removed cannot be recorded; a restart will find out again", "error", err)
	}
	m.node.Log.Warn(m.Removal())
}

// Removal implements role.Role.
func (m *Member) Removal() string {
	when := ""
	if at := m.identity.RemovedAt(); !at.IsZero() {
		when = " (noticed at " + at.UTC().Format(time.RFC3339) + ")"
	}
	return fmt.Sprintf("this node was removed from its cluster%s and serves nothing any more. To let it come back: stop it, move %s away, "+
		"start it with --nexus-join, and at a member run dkvctl -addNode %s", when, m.memberFolders(), m.identity.URL)
}

// memberFolders are the folders with the identity, the log and the states.
func (m *Member) memberFolders() string {
	dir, logDir := absolute(m.node.Dir.Path()), absolute(m.node.Config.Nexus.LogDir)
	if inside, err := filepath.Rel(dir, logDir); err == nil && filepath.IsLocal(inside) {
		return "its folder " + dir
	}
	return "its folders " + dir + " and " + logDir
}

// absolute is a path that means the same wherever it is read.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
