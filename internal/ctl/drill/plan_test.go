package drill

import (
	"slices"
	"strings"
	"testing"
)

func at(index uint64) map[string]uint64 { return map[string]uint64{"default": index} }

func masters() []Node {
	return []Node{
		{Name: "n1", Address: "a:1", Voter: true, Answers: true, Applied: at(100), Committed: at(103)},
		{Name: "n2", Address: "a:2", Voter: true, Answers: true, Applied: at(103)},
		{Name: "n3", Address: "a:3", Voter: true},
	}
}

// recovers is the way with the folder of one master, whichever that is.
const recovers = "dkvsrv recover --config dkvsrv.yaml --db-folder FOLDER"

func commands(p *Plan) []string {
	var out []string
	for _, w := range p.Ways {
		out = append(out, w.Commands...)
	}
	return out
}

func TestPlanWithoutASlaveNeedsABackup(t *testing.T) {
	p := LostMajority(masters())
	if p.Voters != 3 || p.Majority != 2 || p.Nodes[0].Missing != 3 || p.Nodes[1].Missing != 0 {
		t.Errorf("%+v", p)
	}
	if got := commands(p); !slices.Equal(got, []string{recovers, "dkvctl -a NEW-NODE -restore NAME"}) {
		t.Errorf("commands %q", got)
	}
	text := strings.Join(p.Lines(), "\n")
	for _, want := range []string{"3 masters have a vote, and 2 of them are a majority", "master n1 (a:1) lacks 3 entries of the log", "n3 (a:3) does not answer", "what that master has not received, of those that answer at most 3 entries", "nothing was changed"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestPlanNamesTheSlaveThatLacksLeast(t *testing.T) {
	p := LostMajority(append(masters(),
		Node{Name: "s1", Address: "a:4", Slave: true, Answers: true, Applied: at(90)},
		Node{Name: "s2", Address: "a:5", Slave: true, Answers: true, Applied: at(102)},
		Node{Name: "s3", Address: "a:6", Slave: true}))
	want := []string{recovers, "dkvctl -a a:5 -promote -force", "dkvctl -a a:5 -backup NAME", "dkvctl -a NEW-NODE -restore NAME"}
	if got := commands(p); !slices.Equal(got, want) {
		t.Errorf("commands %q", got)
	}
	if text := strings.Join(p.Lines(), "\n"); !strings.Contains(text, "what the slave has not received, at most 1 entry of the log at this moment") {
		t.Errorf("%s", text)
	}
}

// A slave of several vBuckets cannot be promoted, but it can be backed up.
func TestPlanForSeveralVBuckets(t *testing.T) {
	two := func(a, b uint64) map[string]uint64 { return map[string]uint64{"0": a, "1": b} }
	p := LostMajority([]Node{
		{Name: "n1", Address: "a:1", Voter: true, Answers: true, Applied: two(10, 20)},
		{Name: "s1", Address: "a:4", Slave: true, Answers: true, Applied: two(8, 19)},
	})
	if got := commands(p); p.Nodes[1].Missing != 3 || !slices.Equal(got, []string{recovers, "dkvctl -a a:4 -backup NAME", "dkvctl -a NEW-NODE -restore NAME"}) {
		t.Errorf("%d missing, commands %q", p.Nodes[1].Missing, got)
	}
}
