package app

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/dkvdb/dkv/internal/replica"
)

// isRemoved reports whether the cluster has removed this node, which is for good: what
// it may be again is another member, with an empty folder.
func (n *node) isRemoved() bool {
	for _, v := range n.vBuckets {
		if v.State() != replica.Removed {
			return false
		}
	}
	return n.identity != nil && len(n.vBuckets) > 0
}

// noteRemoval writes down that the node was removed, once it is from all vBuckets: when
// it is started again, it says so and does not ask the members over and over.
func (n *node) noteRemoval() {
	if !n.isRemoved() {
		return
	}
	if err := n.identity.NoteRemoved(time.Now()); err != nil {
		n.log.Warn("that this node was removed cannot be written down; a restart will find out again", "error", err)
	}
	n.log.Warn(n.removal())
}

// removal is what there is to say of it.
func (n *node) removal() string {
	when := ""
	if at := n.identity.RemovedAt(); !at.IsZero() {
		when = " (noticed at " + at.UTC().Format(time.RFC3339) + ")"
	}
	return fmt.Sprintf("this node was removed from its cluster%s and serves nothing any more. To let it come back: stop it, move %s away, "+
		"start it with --nexus-join, and at a member run dkvctl -addNode %s", when, n.memberFolders(), n.identity.URL)
}

// memberFolders are where a member keeps what it is and has.
func (n *node) memberFolders() string {
	dir, logDir := absolute(n.dir.Path()), absolute(n.cfg.Nexus.LogDir)
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
