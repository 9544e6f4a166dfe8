package lease

// breach is a rule of the argument in DESIGN.md that a test breaks, to see that the
// simulation notices. That needs the build tag leasebreach; any other build keeps all rules.
type breach uint16

const (
	noWaitOut          breach = 1 << iota // activate as soon as BEGIN is applied
	shortWaitOut                          // wait for half a lease
	waitOwn                               // wait for the process's own lease length only
	unrecorded                            // leases last for Length, whatever the epoch's record says
	waitAlone                             // wait without allowance for drift
	noRecheck                             // a lease is looked at before the view only
	noRecheckConfirmed                    // and so is a confirmation
	readWhileWaiting                      // ReadIndex serves reads during the wait-out
	leaseFromEnd                          // a lease is measured from the end of ReadIndex
	noLeaderCheck                         // any replica may answer ReadIndex
	endFirst                              // END is proposed before the lease is revoked
	endUnused                             // END is proposed for an epoch that was never active
	trustOwner                            // an earlier epoch of this replica needs no wait-out
	joinRunning                           // a reader joins a ReadIndex that has begun before
)
