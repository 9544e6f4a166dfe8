//go:build leasebreach

package lease

// breaches are those of one Keeper.
type breaches breach

func (b breaches) has(one breach) bool { return breach(b)&one != 0 }
