//go:build leasebreach

package lease

import (
	"flag"
	"testing"
)

var mutantFlag = flag.Int("lease.mutantruns", 40_000, "how many seeds may be needed to find a rule missing")

// rulesTaken is what TestRules takes away, one at a time, and the climate in which that is
// found.
var rulesTaken = []struct {
	name    string
	climate int
	o       simOptions
}{
	{"no wait-out", temperate, simOptions{breaches: breaches(noWaitOut)}},
	{"half a wait-out", temperate, simOptions{breaches: breaches(shortWaitOut)}},
	{"no allowance for drift", drifting, simOptions{breaches: breaches(waitAlone)}},
	{"waiting for one's own lease length", temperate, simOptions{breaches: breaches(waitOwn)}},
	{"only the previous epoch's own length", lopsided, simOptions{machine: machineRules{noEarlier: true}}},
	{"a lease longer than the epoch says", lopsided, simOptions{understated: true, breaches: breaches(unrecorded)}},
	{"no fence", repetitive, simOptions{machine: machineRules{noFence: true}}},
	{"the table of requests before the fence", repetitive, simOptions{machine: machineRules{tableFirst: true}}},
	{"hiding what has expired by the owner's clock alone", expiring, simOptions{hideUntold: true}},
	{"no second look at the lease", dawdlingReaders, simOptions{breaches: breaches(noRecheck)}},
	{"no second look at a confirmation", dawdlingReaders, simOptions{breaches: breaches(noRecheckConfirmed)}},
	{"ReadIndex during the wait-out", temperate, simOptions{breaches: breaches(readWhileWaiting)}},
	{"lease from the end of ReadIndex", slowQuorum, simOptions{breaches: breaches(leaseFromEnd)}},
	{"any member answers ReadIndex", temperate, simOptions{breaches: breaches(noLeaderCheck)}},
	{"END before the lease is revoked", handingOver, simOptions{breaches: breaches(endFirst)}},
	{"END of an epoch that was never active", restless, simOptions{breaches: breaches(endUnused)}},
	{"any earlier epoch of the replica's counts as its own", restless, simOptions{breaches: breaches(trustOwner)}},
	{"joining a ReadIndex that has begun", slowQuorum, simOptions{breaches: breaches(joinRunning)}},
	{"a clock that stops with its process", temperate, simOptions{suspendedClock: true}},
	{"a clock that leaps while its process waits", restless, simOptions{jumpWhileWaiting: true}},
}

// TestRules takes one rule away at a time, and then one of the assumptions, and
// wants to see what it was there for.
func TestRules(t *testing.T) {
	found := make([]uint64, len(rulesTaken))
	t.Run("rules", func(t *testing.T) {
		for i, c := range rulesTaken {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				for seed := uint64(1); seed <= uint64(*mutantFlag); seed++ {
					if history, _ := simulate(t, seed, c.climate, c.o); !check(t, seed, history) {
						found[i] = seed
						return
					}
				}
				t.Errorf("%d seeds have not found it", *mutantFlag)
			})
		}
	})
	for i, c := range rulesTaken {
		if found[i] != 0 {
			t.Logf("%-55s %-17s caught by seed %d", c.name, climateNames[c.climate], found[i])
		}
	}
}
