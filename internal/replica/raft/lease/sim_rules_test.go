//go:build leasebreach

package lease

import (
	"flag"
	"testing"
)

var mutantFlag = flag.Uint64("lease.mutantruns", 40_000, "how many seeds may be needed to find a rule missing")

// rulesTaken is what TestRules takes away, one at a time, and the climate in which that is
// found.
var rulesTaken = []struct {
	name    string
	climate int
	// from is the seed that is tried first, since it found the rule missing ten times of
	// ten. Any other number only takes longer: the rest follows.
	from uint64
	o    simOptions
}{
	{"no wait-out", temperate, 7, simOptions{breaches: breaches(noWaitOut)}},
	{"half a wait-out", temperate, 242, simOptions{breaches: breaches(shortWaitOut)}},
	{"no allowance for drift", drifting, 203, simOptions{breaches: breaches(waitAlone)}},
	{"waiting for one's own lease length", temperate, 13, simOptions{breaches: breaches(waitOwn)}},
	{"only the previous epoch's own length", lopsided, 2312, simOptions{machine: machineRules{noEarlier: true}}},
	{"a lease longer than the epoch says", lopsided, 177, simOptions{understated: true, breaches: breaches(unrecorded)}},
	{"no fence", repetitive, 138, simOptions{machine: machineRules{noFence: true}}},
	{"the table of requests before the fence", repetitive, 5854, simOptions{machine: machineRules{tableFirst: true}}},
	{"hiding what has expired by the owner's clock alone", expiring, 43, simOptions{hideUntold: true}},
	{"no second look at the lease", dawdlingReaders, 613, simOptions{breaches: breaches(noRecheck)}},
	{"no second look at a confirmation", dawdlingReaders, 1337, simOptions{breaches: breaches(noRecheckConfirmed)}},
	{"ReadIndex during the wait-out", temperate, 108, simOptions{breaches: breaches(readWhileWaiting)}},
	{"lease from the end of ReadIndex", slowQuorum, 146, simOptions{breaches: breaches(leaseFromEnd)}},
	{"any member answers ReadIndex", temperate, 1089, simOptions{breaches: breaches(noLeaderCheck)}},
	{"END before the lease is revoked", handingOver, 127, simOptions{breaches: breaches(endFirst)}},
	{"END of an epoch that was never active", restless, 59, simOptions{breaches: breaches(endUnused)}},
	{"any earlier epoch of the replica's counts as its own", restless, 71, simOptions{breaches: breaches(trustOwner)}},
	{"joining a ReadIndex that has begun", slowQuorum, 185, simOptions{breaches: breaches(joinRunning)}},
	{"a clock that stops with its process", temperate, 577, simOptions{suspendedClock: true}},
	{"a clock that leaps while its process waits", restless, 483, simOptions{jumpWhileWaiting: true}},
}

// TestRules takes one rule away at a time, and then one of the assumptions, and
// wants to see what it was there for.
func TestRules(t *testing.T) {
	inOrder(t)
	for _, c := range rulesTaken {
		t.Run(c.name, func(t *testing.T) {
			for i := range *mutantFlag {
				seed := (c.from-1+i)%*mutantFlag + 1
				if history, _ := simulate(t, seed, c.climate, c.o); !check(t, seed, history) {
					t.Logf("%s: caught by seed %d, after %d others", climateNames[c.climate], seed, i)
					return
				}
			}
			t.Errorf("%d seeds have not found it", *mutantFlag)
		})
	}
}
