package cluster

import (
	"context"

	"github.com/dkvdb/dkv/internal/replica"
)

// introduce writes into the log which disks the first members were invited on, for those
// that have not announced that themselves. Only the founder knows; from then on every
// member can reject another disk that asks for such a number. Until then they reject
// every disk.
func (c *Cluster) introduce(ctx context.Context) {
	bound := c.self.Bound()
	if len(bound) == 0 {
		return
	}
	c.mu.Lock()
	members := c.known
	c.mu.Unlock()
	records := c.first().Members()
	for _, p := range members.Peers {
		uuid := bound[p.ID]
		if uuid == "" || records[p.ID].UUID != "" || c.diskOf(p) != uuid {
			continue
		}
		if err := c.first().SetMember(ctx, p.ID, replica.Member{RaftAddress: p.Address, UUID: uuid}); err != nil {
			c.log.Debug("the disk of a first member is not in the log yet", "member", p.ID, "error", err)
			return
		}
	}
}
