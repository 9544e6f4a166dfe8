package state

// What the tests of package state_test see of this one.
const (
	ExpireBatch    = expireBatch
	ExpireInterval = expireInterval
	MaxIndexAhead  = maxIndexAhead
	ReopenPatience = reopenPatience
	ViewPatience   = viewPatience
)
