//go:build !leasebreach

package lease

// breaches are none in this build.
type breaches struct{}

func (breaches) has(breach) bool { return false }
