package host

// ended tells the groups that the process of the member at a Raft address has ended.
func (h *Host) ended(address string) {
	h.groups.Range(func(_, g any) bool {
		g.(Group).MemberEnded(address)
		return true
	})
}

// Campaign has a replica of this host begin an election, unless its log is in a later term.
func (h *Host) Campaign(shard, replica, leader, term uint64) {
	if h.network != nil {
		h.network.Campaign(shard, replica, leader, term)
	}
}
