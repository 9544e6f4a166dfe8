// Package sim runs the rules of standbys and promotions: masters, slaves, clients and the
// real record of the registry, in a world where messages are lost, nodes stop and clocks run
// apart. DESIGN.md of package standby says what each rule is for; TestRules takes them away.
package sim

import (
	"flag"
	"reflect"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

var (
	seedFlag = flag.Uint64("sim.seed", 0, "run only this seed")
	runsFlag = flag.Uint64("sim.runs", 100, "how many seeds TestNothingIsLost runs")
	mostFlag = flag.Uint64("sim.most", 2000, "how many seeds TestRules may need to find a rule missing")
	rareFlag = flag.Bool("sim.rare", false, "have TestRules take away the rules whose absence seldom shows")
)

// rules are those that a run does without.
type rules uint64

func (r rules) has(one rules) bool { return r&one != 0 }

const (
	waitForHeard         rules = 1 << iota // an owner waits for the standbys that it has heard of
	byAddress                              // a standby is known by its address
	confirmReceived                        // what is received is confirmed as synced
	probesDoNotWait                        // "not updated" is answered at once
	repeatsDoNotWait                       // and so is a repeat
	readsDoNotWait                         // and a read
	logBeforeRecord                        // a standby is taken out of the log, and then of the record
	staleReading                           // whether a node stands is read from an old state
	noVersion                              // a standby is entered whatever the record's version
	noSecondLook                           // the lease is looked at before proposing only
	leaseFromAnswer                        // a lease counts from the answer
	noDrift                                // the registry does not allow for clocks
	noWaitOfNewOwner                       // a new owner of the registry knows of no lease
	registryReadsItsCopy                   // the registry grants by its own copy
	beginBehindSeal                        // a new owner of a log begins behind the seal
	readBehindSeal                         // reads are answered behind it
	applyBehindSeal                        // a slave applies and confirms what it began before its seal
	noCompare                              // a claim is given whatever the record has become
	keepAboveEnd                           // a slave keeps what the new history does not have
	forgetRequests                         // the founder does not know the requests before it
	firstLogSpeaks                         // whether a node stands is read from the first log only
	firstLogsLease                         // the owners of the other logs look at no lease
	noQuestion                             // a founder does not ask whether its seals have held
	noWithdrawal                           // it gives up without taking back its claim
	foundersIndex                          // a set ends where its founder is
	unequal                                // the other nodes of a set stay where they are
	recordLeft                             // seals are ended by hand without a change of the record
	gainedAnswers                          // a log that was gained answers before it was looked at
)

// reached counts what runs came across.
type reached struct {
	Writes, Reads, Repeats, Leases, Lapsed, Owners, RegistryOwners, Crashes, LostDisks uint64
	FencedEntries, Entered, Left, Claimed, Fenced, GivenUp, SetAside, Crossed, Cut     uint64
}

// sets counts what promotions of sets came across.
type sets struct {
	// Equal are sets that became equal, for which the founder or the other node was late, Joined
	// those whose other node has become a master, GivenUp those that were given up.
	Equal, FounderLate, OtherLate, Joined, GivenUp uint64
}

// byHand counts what runs came across in which seals are ended by hand.
type byHand struct {
	// Ended are seals that were ended by hand, Found those of which the founder has found it
	// after that, Withdrawn and Given the claims that it took back, or could not,
	// Raised the changes of the record before seals were ended.
	Ended, Found, Withdrawn, Given, Raised uint64
}

func (r *reached) add(o reached) {
	sum, more := reflect.ValueOf(r).Elem(), reflect.ValueOf(o)
	for i := range sum.NumField() {
		sum.Field(i).SetUint(sum.Field(i).Uint() + more.Field(i).Uint())
	}
}

// registers is what clients may rely on: each vBucket is a register.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		out := make([][]porcupine.Operation, vBuckets)
		for _, o := range history {
			v := o.Input.(op).v
			out[v] = append(out[v], o)
		}
		return out
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		if o := input.(op); o.write {
			return true, o.value
		}
		return output == state, state
	},
}

// relevant leaves out the writes of unknown outcome that no read has seen.
func relevant(history []porcupine.Operation) []porcupine.Operation {
	seen := make(map[int]bool)
	for _, o := range history {
		if !o.Input.(op).write {
			seen[o.Output.(int)] = true
		}
	}
	kept := history[:0:0]
	for _, o := range history {
		if in := o.Input.(op); !in.write || seen[in.value] || o.Return < 1<<62 {
			kept = append(kept, o)
		}
	}
	return kept
}

// check returns what is wrong with a run; empty for nothing.
func check(t *testing.T, seed uint64, w *world) string {
	t.Helper()
	if w.wrong != "" {
		return w.wrong
	}
	switch porcupine.CheckOperationsTimeout(registers, relevant(w.history), time.Minute) {
	case porcupine.Ok:
		return ""
	case porcupine.Illegal:
		return "not linearizable"
	}
	t.Fatalf("seed %d: the checker has not come to an end", seed)
	return ""
}

// TestNothingIsLost runs all rules.
func TestNothingIsLost(t *testing.T) {
	var sum reached
	for seed := uint64(1); seed <= *runsFlag; seed++ {
		if *seedFlag != 0 && seed != *seedFlag {
			continue
		}
		w := simulate(seed, 0, nil)
		if wrong := check(t, seed, w); wrong != "" {
			t.Fatalf("seed %d (-sim.seed): %s: %+v", seed, wrong, w.reached)
		}
		sum.add(w.reached)
	}
	t.Logf("%+v", sum)
	counts := reflect.ValueOf(sum)
	for i := range counts.NumField() {
		if counts.Field(i).Uint() == 0 && *seedFlag == 0 {
			t.Errorf("%s: none was reached", counts.Type().Field(i).Name)
		}
	}
}

// TestNothingIsLostInAnyClimate has one kind of misfortune more often than the others.
func TestNothingIsLostInAnyClimate(t *testing.T) {
	for name, in := range map[string]climate{
		"registry outages": registryOutages, "crashes together": crashesTogether, "wiped disks": wipedDisks, "lingering owners": lingeringOwners,
		"former sets": formerSets,
	} {
		t.Run(name, func(t *testing.T) {
			wentBack := 0
			for seed := uint64(1); seed <= *runsFlag/5; seed++ {
				w := simulate(seed, 0, in)
				if wrong := check(t, seed, w); wrong != "" {
					t.Fatalf("seed %d: %s: %+v", seed, wrong, w.reached)
				}
				wentBack += w.wentBack
			}
			if name == "former sets" && wentBack == 0 {
				t.Error("no standing set went back")
			}
		})
	}
}

// TestSealsAreEndedByHand reaches all that a founder may find then.
func TestSealsAreEndedByHand(t *testing.T) {
	var sum byHand
	for seed := uint64(1); seed <= *runsFlag/3; seed++ {
		w := simulate(seed, 0, endedByHand)
		if wrong := check(t, seed, w); wrong != "" {
			t.Fatalf("seed %d: %s: %+v %+v", seed, wrong, w.byHand, w.reached)
		}
		sum.Ended += w.byHand.Ended
		sum.Found += w.byHand.Found
		sum.Withdrawn += w.byHand.Withdrawn
		sum.Given += w.byHand.Given
		sum.Raised += w.byHand.Raised
	}
	if t.Logf("%+v", sum); sum.Ended == 0 || sum.Found == 0 || sum.Withdrawn == 0 || sum.Given == 0 || sum.Raised == 0 {
		t.Errorf("not all was reached: %+v", sum)
	}
}

// TestSetsArePromoted has two slaves become masters together.
func TestSetsArePromoted(t *testing.T) {
	var sum sets
	for seed := uint64(1); seed <= *runsFlag/5; seed++ {
		w := simulate(seed, 0, promotedSets)
		if wrong := check(t, seed, w); wrong != "" {
			t.Fatalf("seed %d: %s: %+v %+v", seed, wrong, w.sets, w.reached)
		}
		sum.Equal += w.sets.Equal
		sum.FounderLate += w.sets.FounderLate
		sum.OtherLate += w.sets.OtherLate
		sum.Joined += w.sets.Joined
		sum.GivenUp += w.sets.GivenUp
	}
	if t.Logf("%+v", sum); sum.Equal == 0 || sum.FounderLate == 0 || sum.OtherLate == 0 || sum.Joined == 0 || sum.GivenUp == 0 {
		t.Errorf("not all was reached: %+v", sum)
	}
}

// TestSeedsRepeat: a seed fixes everything that happens.
func TestSeedsRepeat(t *testing.T) {
	for seed := range uint64(5) {
		a, b := simulate(seed, 0, nil), simulate(seed, 0, nil)
		if a.reached != b.reached || !reflect.DeepEqual(a.history, b.history) {
			t.Errorf("seed %d: %+v\nand %+v", seed, a.reached, b.reached)
		}
	}
}

// rulesTaken are the rules that TestRules takes away, one at a time. Those that are rare need
// more seeds than a test may take: they are run with -sim.rare.
var rulesTaken = []struct {
	name string
	rule rules
	in   climate // nil is the general one
	rare bool
	// from is the seed that is tried first, since it has found the rule missing before. Any
	// other number only takes longer: the rest follows.
	from uint64
}{
	{"A1: waiting for what was heard of", waitForHeard, nil, false, 1},
	{"A2: a standby is an address", byAddress, wipedDisks, false, 173},
	{"A2: received is synced", confirmReceived, crashesTogether, false, 23},
	{"A3: not updated", probesDoNotWait, nil, false, 1},
	{"A3: repeats", repeatsDoNotWait, nil, false, 1},
	{"A3: reads", readsDoNotWait, nil, false, 55},
	{"A4, A6: the log before the record", logBeforeRecord, nil, false, 1},
	{"A5: an old reading", staleReading, lingeringOwners, true, 1},
	{"A5: any version", noVersion, lingeringOwners, true, 1},
	{"A7: no second look", noSecondLook, nil, false, 54},
	{"A7: lease from the answer", leaseFromAnswer, nil, false, 268},
	{"A7: no allowance for drift", noDrift, registryOutages, false, 26},
	{"A7: a new owner knows no lease", noWaitOfNewOwner, nil, false, 96},
	{"A7: the registry reads its copy", registryReadsItsCopy, nil, false, 1},
	{"A8: BEGIN behind the seal", beginBehindSeal, nil, false, 271},
	{"A8: reads behind the seal", readBehindSeal, nil, false, 101},
	{"P2: applied behind the seal", applyBehindSeal, nil, true, 1},
	{"P4: any record", noCompare, nil, true, 1},
	{"B2: kept above the end", keepAboveEnd, nil, false, 98},
	{"P3: requests are forgotten", forgetRequests, nil, false, 1},
	{"A5: the first log speaks for all", firstLogSpeaks, lingeringOwners, false, 21},
	{"A7: the lease of the first log's owner", firstLogsLease, registryOutages, false, 1},
	{"P3: a set ends at its founder's index", foundersIndex, promotedSets, false, 67},
	{"P3: a set is not made equal", unequal, promotedSets, false, 1},
	{"P4: seals are not asked for again", noQuestion, endedByHand, false, 40},
	{"P4: a claim is not withdrawn", noWithdrawal, endedByHand, false, 1},
	{"P4: seals end while a claim fits", recordLeft, endedByHand, false, 1},
	{"A7: a log that was gained is not looked at", gainedAnswers, formerSets, false, 51},
}

// TestRules takes one rule away at a time, and wants to see what it is there for.
func TestRules(t *testing.T) {
	for _, c := range rulesTaken {
		if c.rare != *rareFlag {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for i := range *mostFlag {
				seed := (c.from-1+i)%*mostFlag + 1
				if wrong := check(t, seed, simulate(seed, c.rule, c.in)); wrong != "" {
					t.Logf("%s: seed %d: %s", c.name, seed, wrong)
					return
				}
			}
			t.Errorf("%s: %d seeds have not found it", c.name, *mostFlag)
		})
	}
}
