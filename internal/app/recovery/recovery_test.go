package recovery_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

const (
	sequential   = serverpb.ReadConsistency_SEQUENTIAL
	linearizable = serverpb.ReadConsistency_LINEARIZABLE
)

// tails is how many commands only a former leader has: more than others commit in their place.
const tails = 20

var behind = regexp.MustCompile(`behind +([0-9]+) commands that may or may not have been acknowledged: kept`)

// orphan is a former leader whose log ends with commands that no other member has, with two of the
// keys that these write, and the others, which are stopped as well.
func orphan(t *testing.T, nodes []*process) (left *process, others []*process, kept map[string]bool) {
	t.Helper()
	for attempt := 0; ; attempt++ {
		nodes[0].put("a", "b", "c")
		left, others = leader(t, nodes)
		for _, p := range others {
			p.stop()
		}
		var proposed sync.WaitGroup
		for i := range tails {
			proposed.Go(func() { left.propose(fmt.Sprint("kept", attempt, "-", i)) })
		}
		proposed.Wait()
		left.stop()
		text, _ := left.listed()
		if n, err := strconv.Atoi(append(behind.FindStringSubmatch(text), "", "0")[1]); err == nil && n >= tails {
			return left, others, map[string]bool{fmt.Sprint("kept", attempt, "-0"): true, fmt.Sprint("kept", attempt, "-", tails-1): true}
		}
		if attempt == 5 {
			t.Fatalf("no leader takes commands without a majority:\n%s", text)
		}
		for _, p := range nodes { // it had stepped down before
			p.start()
		}
	}
}

// and are the keys of both.
func and(a, b map[string]bool) map[string]bool {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// TestTheFirstCallChangesNothing, and says what there is and what to type. Other tokens, and that of
// a folder on which the node was started since, are rejected.
func TestTheFirstCallChangesNothing(t *testing.T) {
	left, _, _ := orphan(t, masters(t))
	before := files(t, left.folder)
	text, token := left.listed()
	if after := files(t, left.folder); !maps.Equal(before, after) {
		for path := range after {
			if before[path] != after[path] {
				t.Errorf("%s was changed", path)
			}
		}
		t.Errorf("%d files and folders, were %d", len(after), len(before))
	}
	for _, want := range []string{
		"this member in term", "(this one)", "history", "remembered request",
		"the only master of era 1", "Nothing was changed",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if again, second := left.listed(); again != text || second != token {
		t.Errorf("another call lists\n%s\nbefore it was\n%s", again, text)
	}
	if _, err := left.recoverUntil("0123456789abcdef", ""); err == nil || !strings.Contains(err.Error(), "is not the token") {
		t.Errorf("another token: %v", err)
	}
	left.start().logs("msg=serving")
	if _, err := left.recoverUntil(token, ""); err == nil || !strings.Contains(err.Error(), "stop the other dkvsrv") {
		t.Errorf("while the node runs: %v", err)
	}
	left.stop()
	if _, err := left.recoverUntil(token, ""); err == nil || !strings.Contains(err.Error(), "has changed since") {
		t.Errorf("after a start: %v", err)
	}
}

// TestCrashes ends a recovery behind each step: nothing is served then, no other token goes on, and
// the same one completes it, whatever was done.
func TestCrashes(t *testing.T) {
	left, _, kept := orphan(t, masters(t))
	_, token := left.listed()
	for _, step := range []string{"decided", "identity", "built default", "committed default", "forked default", "log", "founded"} {
		t.Run(step, func(t *testing.T) {
			p := left.copied()
			p.t = t
			t.Cleanup(p.stop)
			if _, err := p.recoverUntil(token, step); !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			p.start()
			if code := p.ends(); code != 1 || !p.log.Has("is not complete, so nothing in it may be served; complete it: dkvsrv recover --confirm "+token) {
				t.Fatalf("started: %d\n%s", code, p.log)
			}
			if text, err := p.recoverUntil("", ""); err != nil || !strings.Contains(text, "--confirm "+token) {
				t.Fatalf("%s, %v", text, err)
			}
			if _, err := p.recoverUntil("0123456789abcdef", ""); err == nil {
				t.Fatal("another token goes on")
			}
			if text, err := p.recoverUntil(token, ""); err != nil || !strings.Contains(text, "the only master of era 1") {
				t.Fatalf("%s, %v", text, err)
			}
			if text, err := p.recoverUntil(token, ""); err != nil || !strings.Contains(text, "is recovered already") {
				t.Errorf("the same once more: %s, %v", text, err)
			}
			if _, err := p.recoverUntil("", ""); err == nil || !strings.Contains(err.Error(), "start its node") {
				t.Errorf("listed again: %v", err)
			}
			aside, err := os.ReadDir(filepath.Join(p.folder, "aside-before-era-1"))
			var names []string
			for _, e := range aside {
				names = append(names, e.Name())
			}
			if got := strings.Join(names, " "); err != nil || got != "members.json nexus raft.json vbucket-default" {
				t.Errorf("kept: %s, %v", got, err)
			}
			p.start()
			p.serves(linearizable, and(kept, map[string]bool{"a": true, "b": true, "c": true}))
			p.put("more")
		})
	}
}

// TestAllVBuckets are recovered together: with a folder of which one cannot be read nothing is done,
// and the command names it.
func TestAllVBuckets(t *testing.T) {
	nodes := masters(t, "--vbuckets", "4")
	want := map[string]bool{}
	for i := range 20 {
		want[fmt.Sprint("key", i)] = true
	}
	for key := range want {
		nodes[0].put(key)
	}
	for _, p := range nodes {
		testkit.Eventually(t, p.name+" has all", func() bool {
			for key := range want {
				if found, err := p.has(key, sequential); !found || err != nil {
					return false
				}
			}
			return true
		})
	}
	for _, p := range nodes {
		p.stop()
	}
	damaged := nodes[2].copied()
	if err := os.Remove(filepath.Join(damaged.folder, "vbucket-2", "CURRENT")); err != nil {
		t.Fatal(err)
	}
	if _, err := damaged.recoverUntil("", ""); err == nil || !strings.Contains(err.Error(), "vBucket 2 cannot be recovered") || !strings.Contains(err.Error(), "together, or none") {
		t.Errorf("a folder without a vBucket: %v", err)
	}
	p := nodes[2]
	_, token := p.listed()
	if _, err := p.recoverUntil(token, "forked 1"); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	if _, err := p.recoverUntil(token, ""); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.serves(linearizable, want)
}

// TestTheOldClusterIsNotMixedIn: a slave has what the other members have committed under the numbers
// of what only the recovered one has. It starts over, while one that has less goes on. The
// other members come back with a majority, are told, and yield.
func TestTheOldClusterIsNotMixedIn(t *testing.T) {
	nodes := masters(t)
	ahead, level := slaveOf(t, nodes), slaveOf(t, nodes)
	ahead.start()
	level.start()
	nodes[0].put("a", "b", "c")
	for _, s := range []*process{ahead, level} {
		s.serves(sequential, map[string]bool{"c": true})
	}
	level.stop()
	for _, p := range nodes {
		testkit.Eventually(t, p.name+" knows where the others serve", func() bool {
			raw, err := os.ReadFile(filepath.Join(p.folder, "members.json"))
			return err == nil && !slices.ContainsFunc(nodes, func(o *process) bool { return o != p && !strings.Contains(string(raw), o.listen) })
		})
	}
	left, others, kept := orphan(t, nodes)
	for _, p := range others {
		p.start()
	}
	others[0].put("x1", "x2", "x3")
	ahead.serves(sequential, map[string]bool{"x3": true})
	for _, p := range others {
		p.stop()
	}
	text, token := left.listed()
	for _, p := range others {
		if !strings.Contains(text, p.listen) {
			t.Fatalf("%s at %s is not told:\n%s", p.name, p.listen, text)
		}
	}
	if _, err := left.recoverUntil(token, ""); err != nil {
		t.Fatal(err)
	}
	left.start()
	want := and(kept, map[string]bool{"a": true, "b": true, "c": true, "x1": false, "x3": false, "new": true})
	left.put("new")
	left.serves(linearizable, want)
	level.start()
	ahead.serves(sequential, want)
	level.serves(sequential, want)
	if !ahead.log.Has("the copy has changes that the promotion did not keep") {
		t.Errorf("the slave that was ahead has not set its copy aside:\n%s", ahead.log)
	}
	if !level.log.Has("the copy goes on in the history that a promotion has begun") {
		t.Errorf("the slave that had less does not go on:\n%s", level.log)
	}
	for _, p := range others {
		p.start()
	}
	for _, p := range others {
		p.logs("a promotion has replaced this node; it is no master any more")
	}
	left.serves(linearizable, want)
}
