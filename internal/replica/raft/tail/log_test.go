package tail

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/raft/wal"
)

// left makes the logs of a host of the deployment 7 on a machine.
func left(t *testing.T, dir, machine string, commit uint64, entries ...raftpb.Entry) {
	t.Helper()
	l, err := wal.Open(wal.Options{Dir: filepath.Join(dir, machine, "00000000000000000007", "wal")})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SaveBootstrapInfo(1, 2, raftpb.Bootstrap{Addresses: map[uint64]string{1: "a:1", 2: "b:1", 3: "c:1"}}); err != nil {
		t.Fatal(err)
	}
	u := raftpb.Update{ShardID: 1, ReplicaID: 2, State: raftpb.State{Term: 5, Vote: 2, Commit: commit}, EntriesToSave: entries}
	if err := l.SaveRaftState([]raftpb.Update{u}, 1); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func proposed(index uint64, key string) raftpb.Entry {
	c := command.Command{Kind: command.Unseal, Expect: []byte(key)}
	return raftpb.Entry{Index: index, Term: 4, ClientID: 9, Type: raftpb.EncodedEntry, Cmd: c.Append([]byte{0})}
}

func changed(index uint64, kind raftpb.ConfigChangeType, replica uint64, address string) raftpb.Entry {
	c := raftpb.ConfigChange{Type: kind, ReplicaID: replica, Address: address}
	return raftpb.Entry{Index: index, Term: 4, Type: raftpb.ConfigChangeEntry, Cmd: raftpb.MustMarshal(&c)}
}

func look(t *testing.T, dir string) *Log {
	t.Helper()
	logs, err := host.Look(dir, 7)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { logs.Close() })
	l, err := Open(logs, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLogOfAStoppedMember: its extent, its commands without the entries that are Dragonboat's own, and
// its members after all changes.
func TestLogOfAStoppedMember(t *testing.T) {
	dir := t.TempDir()
	left(t, dir, "m", 2,
		raftpb.Entry{Index: 1, Term: 4}, proposed(2, "two"),
		changed(3, raftpb.RemoveNode, 1, ""), changed(4, raftpb.AddNonVoting, 4, "d:1"), changed(5, raftpb.AddNonVoting, 5, "e:1"),
		changed(6, raftpb.AddNode, 4, "d:1"), proposed(7, "seven"))
	l := look(t, dir)
	if l.First != 1 || l.Last != 7 || l.Term != 5 || l.LastTerm != 4 || l.Commit != 2 {
		t.Errorf("%+v", l)
	}
	var got []string
	if err := l.Commands(1, 7, func(entry uint64, c *command.Command) error {
		got = append(got, string(c.Expect))
		return nil
	}); err != nil || !slices.Equal(got, []string{"two", "seven"}) {
		t.Errorf("commands %q, %v", got, err)
	}
	m, err := l.Members()
	if err != nil || !maps.Equal(m.Voters, map[uint64]string{2: "b:1", 3: "c:1", 4: "d:1"}) || !maps.Equal(m.Others, map[uint64]string{5: "e:1"}) {
		t.Errorf("%+v, %v", m, err)
	}
	if alone, err := m.Alone(2); alone || err != nil {
		t.Error(alone, err)
	}
	if alone, err := (Members{Voters: map[uint64]string{2: "b:1"}}).Alone(2); !alone || err != nil {
		t.Error(alone, err)
	}
	if _, err := (Members{}).Alone(2); err == nil {
		t.Error("a log without members has one that is alone")
	}
	for at, want := range map[uint64]string{0: "", 3: "", 7: "", 8: "the log is an older copy"} {
		if err := l.CheckFollows(at); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("a state at %d: %v", at, err)
		}
	}
	l.First = 5
	if err := l.CheckFollows(3); err == nil || !strings.Contains(err.Error(), "a snapshot that is not taken up yet") {
		t.Errorf("a log that begins behind the state: %v", err)
	}
}

// TestLogsThatAreNotOne: there has to be one log, of this deployment and release.
func TestLogsThatAreNotOne(t *testing.T) {
	rejected := func(dir string, deployment uint64, want string) {
		t.Helper()
		if logs, err := host.Look(dir, deployment); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v; want %q", logs, err, want)
		}
	}
	dir := t.TempDir()
	rejected(dir, 7, "there is no Raft log")
	rejected(filepath.Join(dir, "none"), 7, "there is no Raft log")
	left(t, dir, "m", 1, proposed(1, "one"))
	rejected(dir, 8, "there is no Raft log")
	left(t, dir, "aside-before-era-1", 1, proposed(1, "one"))
	look(t, dir)
	left(t, dir, "n", 1, proposed(1, "one"))
	rejected(dir, 7, "several machines")
	earlier := t.TempDir()
	if err := os.MkdirAll(filepath.Join(earlier, "m", "00000000000000000007", "logdb-0"), 0o700); err != nil {
		t.Fatal(err)
	}
	rejected(earlier, 7, "start this node once with this release")
}
