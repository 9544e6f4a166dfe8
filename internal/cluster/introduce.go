package cluster

import (
	"context"

	"github.com/dkvdb/dkv/internal/replica"
)

// introduce writes into the log which disks the first members were invited on, where
// they have not said so themselves. The founder alone knows; once it stands in the
// log, every member can refuse to give the number of one to another disk. Until then
// they all refuse.
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
			c.log.Debug("the disk of a first member does not stand in the log yet", "member", p.ID, "error", err)
			return
		}
	}
}
