package fsm

import "testing"

// A state knows the histories whose place its own has taken, over restarts, snapshots and
// restores; the oldest are forgotten, and those of a backup are none of them.
func TestLineage(t *testing.T) {
	x := newFixture(t)
	var former []string
	for range maxLineage + 2 {
		former = append(former, x.m.Identity().History)
		backup := newFixture(t)
		stranger := backup.m.Identity().History
		if err := backup.m.KeepLineage(backup.engine); err != nil {
			t.Fatal(err)
		}
		if err := Rebase(backup.engine, x.m.Identity().Cluster, x.m.Applied()+1, false); err != nil {
			t.Fatal(err)
		}
		if err := x.m.KeepLineage(backup.engine); err != nil {
			t.Fatal(err)
		}
		backup.restart()
		if x = backup; x.m.Succeeds(stranger) {
			t.Fatal("the history of a backup is taken for a former one")
		}
	}
	for _, m := range []*Machine{x.m, newMachine(t, copiedEngine(t, x.m))} {
		for i, h := range former {
			if got, want := m.Succeeds(h), i >= 2; got != want {
				t.Errorf("it succeeds history %d of %d: %v", i, len(former), got)
			}
		}
		if m.Succeeds(m.Identity().History) || len(m.Lineage()) != maxLineage {
			t.Errorf("%d histories before its own", len(m.Lineage()))
		}
	}
}
